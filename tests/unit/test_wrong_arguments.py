"""Arguments of the wrong type: a LottapackError names the argument."""

import numpy as np
import pytest
import torch
from torch import nn

import lottapack
from lottapack.errors import LimitError, ScaffoldError, UnsupportedError


def mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


@pytest.mark.parametrize("model", [None, "model.pt", nn.Linear, [nn.Linear(2, 2)], {"weight": torch.zeros(2)}])
def test_what_is_no_module(model):
    for call in (lottapack.scaffold, lottapack.init_backbone_):
        with pytest.raises(ScaffoldError, match=r"a model is needed, a torch\.nn\.Module") as raised:
            call(model, seed=1)
        assert raised.value.hint
    with pytest.raises(ScaffoldError, match="a model is needed"):
        lottapack.nn.is_scaffolded(model)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("distribution", None),
        ("distribution", 5),
        ("scaffolds", ["a"]),
        ("scaffolds", {1: 2}),
        ("targets", 5),
        ("targets", ["0", 5]),
        ("rank", {0: 2}),
        ("rank", True),
        ("alpha", "x"),
        ("dropout", None),
        ("backbone", None),
        ("backbone", 5),
        ("seed", "42"),
    ],
)
def test_arguments_of_scaffold(argument, value):
    with pytest.raises(ScaffoldError, match="|".join((argument, "scaffold '?1"))):
        lottapack.scaffold(mlp(), **{"seed": 1, "rank": 2, argument: value})


def test_integers_of_numpy_are_integers():
    model = lottapack.scaffold(mlp(), seed=np.int64(7), rank=np.int32(2))
    same = lottapack.scaffold(mlp(), seed=7, rank=2)
    assert torch.equal(model.state_dict()["lottapack_recipe"], same.state_dict()["lottapack_recipe"])
    assert torch.equal(lottapack.draw("w", 4, seed=np.uint64(7)), lottapack.draw("w", 4, seed=7))


def test_a_parameter_whose_elements_share_memory():
    model = mlp()
    model[0].weight = nn.Parameter(torch.zeros(1, 1).expand(16, 8))
    with pytest.raises(ScaffoldError, match=r"cannot write 0\.weight: its elements share memory"):
        lottapack.scaffold(model, seed=1, rank=2)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": 5},
        {"name": None},
        {"seed": "x"},
        {"seed": None},
        {"scale": "lecun"},
        {"distribution": None},
        {"start": 1.5},
        {"dtype": "float33"},
        {"dtype": None},
        {"device": "abacus"},
        {"shape": (2**40, 2**30)},
    ],
)
def test_arguments_of_draw(changed):
    arguments = {"name": "w", "shape": (2, 2), "seed": 1, **changed}
    with pytest.raises(UnsupportedError) as raised:
        lottapack.draw(arguments.pop("name"), arguments.pop("shape"), **arguments)
    assert raised.value.hint


def test_drawing_more_than_the_memory():
    with pytest.raises(LimitError, match="more than is free"):
        lottapack.draw("w", 2**50, seed=1)


@pytest.mark.parametrize("dtype", ["bfloat17", "x", 5, torch.int8, torch.complex64])
def test_dtypes_that_nothing_converts_to(dtype, tmp_path):
    path = tmp_path / "a.lotta.safetensors"
    lottapack.pack(lottapack.scaffold(mlp(), seed=1, rank=2), path)
    for call in (lottapack.load, lambda pack, dtype: lottapack.export(pack, tmp_path / "b", dtype=dtype)):
        with pytest.raises(UnsupportedError, match=r"cannot convert") as raised:
            call(path, dtype=dtype)
        assert "torch.bfloat16" in raised.value.hint


@pytest.mark.parametrize("changed", [{"coding": ["int8-block64"]}, {"coding": 5}, {"max_error": "x"}])
def test_arguments_of_a_compression(changed):
    with pytest.raises(lottapack.errors.CheckpointError, match=next(iter(changed))):
        lottapack.Compression(**changed)
