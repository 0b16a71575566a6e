"""Ties to a weight with an adapter, in packs that other programs may write: one layer twice, or a typed refusal."""

import numpy as np
import pytest
import torch
from models import bits
from sound import Model, Tensor, linear, sequential
from torch import nn

import lottapack

CONV = {
    "in_channels": 2,
    "out_channels": 2,
    "kernel_size": [3],
    "padding": [1],
    "dilation": [1],
    "groups": 1,
    "bias": True,
    "padding_mode": "zeros",
}


class Table(nn.Module):
    """Reads its parameter itself."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(4, 4))


class Tables(nn.Module):
    """The same parameter in two modules, twice in one module, and at the root."""

    def __init__(self, kind: str):
        super().__init__()
        self.first = Table()
        if kind == "modules":
            self.second = nn.Linear(4, 4, bias=False)
            self.second.weight = self.first.table
        elif kind == "names":
            self.first.again = self.first.table
        else:
            self.table = self.first.table


class Head(nn.Linear):
    """Not exactly a linear layer."""


class Language(nn.Module):
    """A head of another class than the stock one."""

    def __init__(self):
        super().__init__()
        self.tokens, self.head = nn.Embedding(4, 4), Head(4, 4, bias=False)
        self.head.weight = self.tokens.weight


def stored(first: int, *shape: int) -> Tensor:
    """A tensor of small numbers."""
    numbers = np.arange(first, first + np.prod(shape, dtype=int), dtype="<f4") / 8
    return Tensor("float32", list(shape), numbers.tobytes())


def written(path, architecture, adapted, ties, shape=(4, 4), fan_in_fan_out=False, **others):
    model = Model(architecture, 7)
    model.adapted(adapted, list(shape), distribution="sign1", rank=2, fan_in_fan_out=fan_in_fan_out)
    for name, tensor in others.items():
        model.stored(name.replace("_", ".", 1), tensor)
    for name, owner in ties.items():
        model.tied(name, owner)
    path.write_bytes(model.file())
    return model


def of_tests(name, **config):
    return {"family": "python", "class": f"test_same_layer:{name}", "config": config}


def conv(stride):
    return "Conv1d", CONV | {"stride": [stride]}


BIASES = {"1.bias": "0.bias"}
OTHER = {
    "a bias of its own": (sequential(linear(4, 4), linear(4, 4)), "1.weight", (4, 4), {}, 2),
    "no bias": (sequential(linear(4, 4), linear(4, 4, bias=False)), "1.weight", (4, 4), {}, 1),
    "another stride": (sequential(conv(1), conv(2)), "1.weight", (2, 2, 3), BIASES, 1),
}


@pytest.mark.parametrize("other", OTHER)
def test_a_layer_that_differs_in_more_than_the_weight_keeps_what_it_has(other, tmp_path):
    architecture, tied, shape, ties, count = OTHER[other]
    tensors = {f"{number}_bias": stored(3 + number, shape[0]) for number in range(count)}
    model = written(tmp_path / "a", architecture, "0.weight", {tied: "0.weight", **ties}, shape, **tensors)
    plain = lottapack.load(tmp_path / "a", merge=True).state_dict()
    assert {name: bits(plain[name])[2] for name in model.plain} == model.plain
    with pytest.raises(lottapack.errors.ArchitectureError, match=r"1\.weight is tied to 0\.weight.*another layer"):
        lottapack.load(tmp_path / "a")


@pytest.mark.parametrize("layer", [linear(4, 4), linear(4, 4, bias=False), conv(2)], ids=["bias", "none", "conv"])
def test_one_layer_under_two_names_comes_back(layer, tmp_path):
    biased = layer[1]["bias"]
    ties = {"1.weight": "0.weight", **(BIASES if biased else {})}
    shape = (4, 4) if layer[0] == "Linear" else (2, 2, 3)
    biases = {"0_bias": stored(3, shape[0])} if biased else {}
    written(tmp_path / "a", sequential(layer, layer), "0.weight", ties, shape, **biases)
    rebuilt = lottapack.load(tmp_path / "a")
    assert rebuilt[1] is rebuilt[0]
    lottapack.pack(rebuilt, tmp_path / "b")
    first, second = lottapack.numpy.load(tmp_path / "a"), lottapack.numpy.load(tmp_path / "b")
    assert {name: array.tobytes() for name, array in first.items()} == {n: a.tobytes() for n, a in second.items()}


@pytest.mark.parametrize(
    ("architecture", "adapted", "tied"),
    [
        (of_tests("Tables", kind="modules"), "first.table", "second.weight"),
        (of_tests("Tables", kind="names"), "first.table", "first.again"),
        (of_tests("Tables", kind="root"), "first.table", "table"),
        (of_tests("Tables", kind="root"), "table", "first.table"),
        (of_tests("Language"), "tokens.weight", "head.weight"),
    ],
)
@pytest.mark.parametrize("backbone", ["materialised", "blocks"])
def test_a_place_that_would_not_see_the_adapter_is_refused(architecture, adapted, tied, backbone, tmp_path):
    turned = adapted == "tokens.weight"
    written(tmp_path / "a", architecture, adapted, {tied: adapted}, fan_in_fan_out=turned)
    plain = lottapack.load(tmp_path / "a", merge=True, allow="test_same_layer").state_dict()
    assert torch.equal(plain[tied], plain[adapted])
    with pytest.raises(lottapack.errors.ArchitectureError, match=f"{tied} is tied to {adapted}"):
        lottapack.load(tmp_path / "a", allow="test_same_layer", backbone=backbone)


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("role", ["stored", "seeded", "constant"])
def test_a_buffer_that_is_tied_to_a_parameter(role, merge, tmp_path):
    numbers = {"num_features": 4, "eps": 1e-5, "momentum": 0.1, "affine": True, "track_running_stats": True}
    model = Model(sequential(linear(4, 4), ("BatchNorm1d", numbers)), 7)
    for name, shape in (("0.weight", (4, 4)), ("1.weight", (4,)), ("1.bias", (4,)), ("1.running_var", (4,))):
        model.stored(name, stored(3, *shape))
    model.stored("1.num_batches_tracked", Tensor("int64", [], bytes(8)))
    if role == "stored":
        model.stored("0.bias", stored(5, 4))
    elif role == "seeded":
        model.seeded("0.bias", [4], distribution="sign1")
    else:
        model.constant("0.bias", [4], "float32", "3f800000")
    model.tied("1.running_mean", "0.bias")
    (tmp_path / "a").write_bytes(model.file())
    rebuilt = lottapack.load(tmp_path / "a", merge=merge)
    assert bits(rebuilt[1].running_mean)[2] == model.plain["0.bias"]
    assert rebuilt[1].running_mean.data_ptr() == rebuilt[0].bias.data_ptr()
