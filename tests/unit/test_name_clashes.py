"""One name, one meaning: colliding names are refused before writing, with both named."""

from collections import OrderedDict

import msgspec
import pytest
import torch
from torch import nn

import lottapack
from lottapack.errors import CheckpointError, ScaffoldError
from lottapack.format import names, recipe
from lottapack.format.recipe import StoredRecipe, TiedRecipe
from lottapack.nn import recipe_of

STORED = StoredRecipe(group="other", trained=True)


def clashing(parameters, derived=(), adapted=()):
    return dict(names.clashes(parameters, derived, adapted))


@pytest.mark.parametrize(
    "name",
    ["__metadata__", "lottapack", "lottapack.tables.own", "lottapack.x", "lottapack_recipe", "a.lottapack_recipe"],
)
def test_names_that_the_format_keeps_for_itself(name):
    assert clashing([name]).keys() == {name}


@pytest.mark.parametrize(
    "name", ["lottapackx", "a.lottapack", "lottapack_recipe.a", "__metadata__.a", "a.__metadata__"]
)
def test_names_that_are_like_them(name):
    assert clashing([name]) == {}


def test_a_name_of_two_meanings_is_told_once_with_both():
    derived = [("m.beta", "m.weight"), ("m.beta", "m.other"), ("m.beta", "m.third"), ("x", "m.weight")]
    assert clashing(["m.beta", "m.weight"], derived) == {
        "m.beta": "would be both a tensor of m.weight and the parameter m.beta"
    }
    assert clashing([], derived) == {"m.beta": "would be both a tensor of m.other and of m.weight"}


def test_an_adapted_parameter_takes_the_name_of_every_part():
    for part in ("lora_A", "lora_B", "beta", "magnitude"):
        held = [("m.lora_A", "m.weight"), ("m.lora_B", "m.weight")]
        assert clashing(["m.weight", f"m.{part}"], held, ["m.weight"]).keys() == {f"m.{part}"}
        assert clashing([part, "weight"], (), ["weight"]).keys() == {part}
        assert clashing([f"n.{part}", "m.weight"], held, ["m.weight"]) == {}


def scaffolded():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2, bias=False))
    return lottapack.scaffold(model, seed=1, rank=1, targets="0")


def checkpoint_of(**more):
    """A checkpoint whose recipe has more parameters, each with its entry and its tensor."""
    model = scaffolded()
    plan = recipe_of(model)
    parameters = dict(plan.parameters) | {name.replace("__", "."): entry for name, (entry, _) in more.items()}
    changed = msgspec.structs.replace(plan, parameters=parameters)
    tensors = {name.replace("__", "."): tensor for name, (_, tensor) in more.items() if tensor is not None}
    carried = torch.frombuffer(bytearray(changed.to_bytes()), dtype=torch.uint8)
    return changed, {**model.state_dict(), recipe.BUFFER: carried} | tensors


def test_scaffold_refuses_a_module_with_a_name_of_the_format():
    model = nn.Sequential(OrderedDict([("lottapack", nn.Linear(4, 4)), ("head", nn.Linear(4, 3))]))
    with pytest.raises(ScaffoldError, match=r"lottapack\.weight is reserved by the format"):
        lottapack.scaffold(model, seed=1, rank=1)
    assert set(model.state_dict()) == {"lottapack.weight", "lottapack.bias", "head.weight", "head.bias"}


@pytest.mark.parametrize("part", ["beta", "lora_A", "lora_B", "magnitude"])
@pytest.mark.parametrize("entry", [STORED, TiedRecipe(to="1.weight")])
def test_pack_refuses_a_parameter_called_as_a_tensor_of_an_adapter(part, entry, tmp_path):
    _, state = checkpoint_of(**{f"0__{part}": (entry, torch.ones(3))})
    with pytest.raises(CheckpointError, match=rf"0\.{part} would be both a tensor of 0\.weight and the parameter 0"):
        lottapack.pack(state, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_pack_refuses_codes_called_as_a_parameter_and_packs_them_without_a_coding(tmp_path):
    large, small = torch.randn(64, 64), torch.randn(4)
    _, state = checkpoint_of(w=(STORED, large), w__codes=(STORED, small))
    with pytest.raises(CheckpointError, match=r"w\.codes would be both a tensor of w and the parameter w\.codes"):
        lottapack.pack(state, tmp_path / "a", compression=lottapack.Compression(dtype="float16"))
    assert list(tmp_path.iterdir()) == []
    lottapack.pack(state, tmp_path / "a")
    found = lottapack.numpy.load(tmp_path / "a")
    assert torch.equal(torch.from_numpy(found["w"]), large)
    assert torch.equal(torch.from_numpy(found["w.codes"]), small)


def test_a_recipe_says_which_names_clash():
    plan, _ = checkpoint_of()
    assert dict(recipe.name_clashes(plan)) == {}
    other = plan.parameters["0.weight"]
    plan, _ = checkpoint_of(**{"0__other": (other, None)})
    assert dict(recipe.name_clashes(plan)) == {}
    taken = [f"0.other_{part}" for part in ("lora_A", "lora_B", "beta", "magnitude")]
    plan, _ = checkpoint_of(**{"0__other": (other, None)} | {name.replace(".", "__"): (STORED, None) for name in taken})
    assert dict(recipe.name_clashes(plan)) == {
        name: f"would be both a tensor of 0.other and the parameter {name}" for name in taken
    }
