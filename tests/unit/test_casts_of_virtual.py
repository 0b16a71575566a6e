"""Casts round a virtual weight as they round one in memory, and what was rounded stays so in later, wider dtypes."""

import copy
import pickle

import pytest
import test_any_module
import torch
from models import TRANSFORMERS, bits
from test_virtual_modules import X, pair
from torch import nn

import lottapack
from lottapack.errors import CheckpointError
from lottapack.nn.generated import generated_of

package = test_any_module.package
f64, f32, f16, b16 = torch.float64, torch.float32, torch.float16, torch.bfloat16
MODES = {"sign1": "virtual", "normal16": "blocks"}
CASTS = [(f16, f32), (b16, f32), (b16, f16, f32), (f16, b16), (b16, f16), (f64, f32), (f16, f64), (f32, b16, f16, b16)]


def layers(table="normal16", low=f32, **options):
    """The same layers materialised and virtual; narrow dtypes round the scale."""
    options = {"seed": 3, "rank": 2, "distribution": table, "scale": 0.3, "scaffolds": {"other": 4}, **options}
    made = [nn.Linear(6, 5), nn.Conv1d(6, 3, 2), nn.Conv2d(2, 4, 2, groups=2), nn.Embedding(9, 6)]
    return [
        lottapack.scaffold(nn.Sequential(*copy.deepcopy(made)).to(low), backbone=backbone, **options)
        for backbone in ("materialised", MODES[table])
    ]


def cast(model, casts):
    for dtype in casts:
        model = model.to(dtype)
    return model


def unit(rows, dtype):
    return torch.eye(rows, dtype=dtype)


def backbones(model):
    return [bits(getattr(layer, "backbone", layer.weight)) for layer in model]


def outputs(model):
    """What each layer computes of its weight's single elements, and the elements themselves."""
    linear, line, plane, table = model
    dtype = table.weight.dtype
    given = unit(6, dtype).requires_grad_()
    out = linear(given)
    gradient = torch.autograd.grad(out, given, unit(6, dtype)[:, :5])[0]
    found = [out, gradient, line(unit(12, dtype).view(12, 6, 2)), plane(unit(8, dtype).view(8, 2, 2, 2))]
    return [bits(one) for one in (*found, table(torch.arange(9)), *(layer.weight + 0 for layer in model))]


@pytest.mark.parametrize("options", [{"targets": "*"}, {"targets": [], "train": ["biases"]}], ids=["adapted", "frozen"])
@pytest.mark.parametrize("table", MODES)
@pytest.mark.parametrize("casts", CASTS, ids=str)
def test_layers_compute_with_the_rounded_weight(casts, table, options):
    full, model = (cast(one, casts) for one in layers(table, **options))
    assert all(generated_of(layer) is not None for layer in model)
    assert outputs(model) == outputs(full)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.to_empty(device="cpu")):
        assert backbones(other) == backbones(full)


@pytest.mark.parametrize("kind", ["experts", "lstm", "attention", "raw"])
def test_modules_compute_with_the_rounded_weight(kind, package):
    for table in MODES:
        full, model = (one.half().float() for one in pair(kind, table))
        unrounded = pair(kind, table)[0]
        with torch.no_grad():
            assert torch.equal(model(X), full(X))
            assert not torch.equal(model(X), cast(unrounded, [f32])(X))


def test_a_tied_head_and_its_embedding_are_rounded():
    options = {"seed": 1, "rank": 2, "targets": ["embed_tokens"]}
    found = set()
    for mode in ("materialised", "blocks"):
        torch.manual_seed(0)
        model = lottapack.scaffold(TRANSFORMERS["llama"](), backbone=mode, **options).half().float()
        found |= {bits(model.lm_head.weight + 0), bits(model.model.embed_tokens.weight + 0)}
    assert len(found) == 1


def test_autocast_rounds_the_weight_of_a_narrow_model():
    full, model = (one.half()[0] for one in layers(targets="*"))
    with torch.autocast("cpu", b16):
        assert bits(model(unit(6, f16))) == bits(full(unit(6, f16)))


def test_what_was_loaded_in_a_narrow_dtype_stays_rounded(tmp_path):
    lottapack.pack(layers(targets="*")[0], tmp_path / "p")
    full = lottapack.load(tmp_path / "p", dtype=b16).float()
    model = lottapack.load(tmp_path / "p", dtype=b16, backbone="blocks").float()
    assert outputs(model) == outputs(full)
    assert outputs(model) != outputs(lottapack.load(tmp_path / "p", backbone="blocks"))


@pytest.mark.filterwarnings("ignore::lottapack.errors.BackboneChangedWarning")
@pytest.mark.parametrize(
    ("low", "casts"), [(f32, (f16, f32)), (f32, (b16, f16)), (f32, (f64, f32)), (f32, (b16,)), (b16, (f16, b16))]
)
def test_packs_are_the_same(low, casts, tmp_path):
    full, model = (cast(one, casts) for one in layers(low=low, targets="*"))
    found = {}
    for name, one in (("full", full), ("virtual", model)):
        try:
            lottapack.pack(one, tmp_path / name)
            found[name] = (tmp_path / name).read_bytes()
        except CheckpointError as fault:
            found[name] = str(fault)
    assert found["virtual"] == found["full"]


@pytest.mark.filterwarnings("ignore::lottapack.errors.BackboneChangedWarning")
def test_a_state_dict_tells_of_rounding(tmp_path):
    full, model = (one.half().float() for one in layers(targets="*"))
    states = full.state_dict(), model.state_dict()
    assert {n: bits(t) for n, t in states[0].items()} == {n: bits(t) for n, t in states[1].items()}
    for state in states:
        with pytest.raises(CheckpointError, match="is not what its seed gives"):
            lottapack.pack(state, tmp_path / "p")
    other = layers(targets="*")[1]
    with pytest.warns(lottapack.errors.BackboneChangedWarning, match="the checkpoint was written on another backbone"):
        other.load_state_dict(states[1])


def test_a_cast_that_rounds_nothing_is_none(tmp_path):
    """0.25 and -0.25 are numbers of every dtype."""
    found = {}
    for one in layers("sign1", targets="*", scale=0.25):
        lottapack.pack(one.half().float(), tmp_path / "p")
        found[(tmp_path / "p").read_bytes()] = one
    assert len(found) == 1
    assert not lottapack.nn.recipe_of(lottapack.load(tmp_path / "p")).changed


@pytest.mark.parametrize("again", [lambda model: lottapack.switch(model, "other"), lottapack.nn.regenerate_])
def test_a_backbone_that_is_drawn_again_is_not_rounded(again):
    full, model = (one.half().float() for one in layers(targets="*"))
    for one in (full, model):
        again(one)
    assert outputs(model) == outputs(full)
