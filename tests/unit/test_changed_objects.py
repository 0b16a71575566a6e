"""What a module of one's own keeps in objects, containers and functions is compared, as its plain attributes are."""

import collections
import copy
import dataclasses
import functools
import sys
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from models import train
from torch import nn

import lottapack
from lottapack.arch.said import said
from lottapack.errors import CheckpointError, LeftOutWarning

S = ".lotta.safetensors"


@dataclasses.dataclass
class Settings:
    """A configuration as many projects write it."""

    scale: float = 1.0
    act: str = "relu"
    mean: torch.Tensor = dataclasses.field(default_factory=lambda: torch.zeros(16))


class Slotted:
    """An object without a dict."""

    __slots__ = ("factor",)

    def __init__(self):
        self.factor = 1.0


def times(factor):
    return lambda x: factor * x


def under_the_name_of(one, other):
    other.__qualname__ = one.__qualname__
    return other


class Holder(nn.Module):
    """Its forward pass reads what no checkpoint holds."""

    factor = 1.0

    def __init__(self):
        super().__init__()
        self.fc, self.head = nn.Linear(16, 16), nn.Linear(16, 4)
        self.settings, self.slotted, self.again = Settings(), Slotted(), Slotted()
        self.again = self.slotted
        self.space = types.SimpleNamespace(k=1.0)
        self.rules = {"x": [Settings()], "t": (torch.ones(2), Slotted())}
        self.fn = functools.partial(F.leaky_relu, negative_slope=0.1)
        self.times, self.twice = times(2.0), lambda x: 2 * x
        self.kept, self.kind, self.norm_class = self.shift, torch.float32, nn.LayerNorm
        self.span, self.chosen, self.raw, self.turn, self.steps = slice(0, 16), {1, 2}, b"\1", 1j, range(2)
        self.array, self.last = np.ones(16), collections.deque([1.0])
        self.factor, self.mask, self.table = 2.0, None, torch.ones(16)
        self.register_buffer("cache", None, persistent=False)
        self.register_buffer("position", torch.arange(16.0), persistent=False)
        self.norm = nn.LayerNorm(16, elementwise_affine=False)
        self.acts = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Tanh()})

    def shift(self, x):
        return x

    def forward(self, x):
        return self.head(self.fc(x) * self.settings.scale)


CHANGES = {
    "settings.scale": lambda one: setattr(one.settings, "scale", 2.0),
    "settings.act": lambda one: setattr(one, "settings", Settings(act="gelu")),
    "settings.mean": lambda one: one.settings.mean.add_(1),
    "settings": lambda one: setattr(one, "settings", None),
    "slotted.factor": lambda one: setattr(one.slotted, "factor", 2.0),
    "again": lambda one: setattr(one, "again", Slotted()),
    "space.k": lambda one: setattr(one.space, "k", 2.0),
    r"rules\[x\]\[0\].scale": lambda one: setattr(one.rules["x"][0], "scale", 2.0),
    r"rules\[t\]\[1\].factor": lambda one: setattr(one.rules["t"][1], "factor", 2.0),
    "fn": lambda one: setattr(one, "fn", functools.partial(F.leaky_relu, negative_slope=0.5)),
    "kept": lambda one: setattr(one, "kept", torch.relu),
    "times.factor": lambda one: setattr(one, "times", times(3.0)),
    "twice": lambda one: setattr(one, "twice", under_the_name_of(one.twice, lambda x: 3 * x)),
    "kind": lambda one: setattr(one, "kind", torch.bfloat16),
    "norm_class": lambda one: setattr(one, "norm_class", nn.RMSNorm),
    "span": lambda one: setattr(one, "span", slice(0, 8)),
    "chosen": lambda one: one.chosen.add(7),
    "raw": lambda one: setattr(one, "raw", b"\2"),
    "turn": lambda one: setattr(one, "turn", 2j),
    "steps": lambda one: setattr(one, "steps", range(3)),
    "array": lambda one: one.array.__setitem__(3, 5),
    "last": lambda one: one.last.append(2.0),
    "factor": lambda one: delattr(one, "factor"),
    "table": lambda one: setattr(one, "table", None),
    "position": lambda one: setattr(one, "position", None),
    "norm": lambda one: setattr(one, "norm", None),
    "acts": lambda one: one.acts.update({"a": one.acts.pop("a")}),
    "acts.b": lambda one: one.acts.pop("b"),
    "acts.c": lambda one: one.acts.update({"c": nn.Sigmoid()}),
}


def holder():
    return train(lottapack.scaffold(lottapack.build("python", f"{__name__}:Holder"), seed=1, rank=2, targets="fc"))


@pytest.mark.parametrize("place", CHANGES)
def test_what_an_object_holds_is_compared(place, tmp_path):
    made = holder()
    CHANGES[place](made)
    for given in (made, made.state_dict()):
        with pytest.raises(
            CheckpointError, match=rf"^{place}(, which no checkpoint holds,)? (is|has|holds) .*; in a "
        ) as caught:
            lottapack.pack(given, tmp_path / S)
        name = place.replace("\\", "")
        assert f"`ignore={name}`" in str(caught.value)
        assert name in lottapack.pack(given, tmp_path / S, ignore=name.partition("[")[0] + "*").left_out


@pytest.mark.parametrize("place", ["mask", "cache"])
def test_a_tensor_in_the_place_of_none_may_be_a_cache_so_a_warning_names_it(place, tmp_path):
    made = holder()
    setattr(made, place, torch.ones(16))
    for given in (made, made.state_dict()):
        with pytest.warns(LeftOutWarning, match=f"^{place}: the pack leaves this value out, since .*`ignore={place}`"):
            lottapack.pack(given, tmp_path / S)
        assert lottapack.pack(given, tmp_path / S, ignore=place).left_out == (place,)


def test_copies_that_share_what_the_constructor_shares_are_no_change(tmp_path):
    lottapack.pack(holder(), tmp_path / S)
    loaded = lottapack.load(tmp_path / S, allow=__name__)
    for one in (holder(), copy.deepcopy(holder()), loaded):
        assert '"changed":' not in recipe_text(one)
        lottapack.pack(one, tmp_path / "again")


class Processor:
    """Computes, and holds nothing: as the attention processors of diffusers do."""

    def __call__(self, x):
        return x


class Processed(nn.Module):
    """As a block of diffusers: its processors may be one object, and a function recomputes what it did not keep."""

    def __init__(self):
        super().__init__()
        self.fc, self.gradient_checkpointing = nn.Linear(16, 16), False
        self.first, self.second = Processor(), Processor()

    def forward(self, x):
        if self.gradient_checkpointing:
            return self._gradient_checkpointing_func(self.fc, x)
        return self.second(self.first(self.fc(x)))


def test_one_object_that_holds_nothing_may_stand_for_several(tmp_path):
    made = lottapack.scaffold(lottapack.build("python", f"{__name__}:Processed"), seed=1, rank=2, targets="fc")
    before = lottapack.pack(made, tmp_path / S).sha256
    made.first = made.second = Processor()
    assert lottapack.pack(made, tmp_path / S).sha256 == before
    made.second = Slotted()
    with pytest.raises(CheckpointError, match=r"^second is an object of .*Slotted; in a "):
        lottapack.pack(made, tmp_path / S)


def test_how_gradients_are_recomputed_is_no_change(tmp_path):
    made = lottapack.scaffold(lottapack.build("python", f"{__name__}:Processed"), seed=1, rank=2, targets="fc")
    before = lottapack.pack(made, tmp_path / S).sha256
    made.gradient_checkpointing, made._gradient_checkpointing_func = True, lambda layer, x: layer(x)
    assert lottapack.pack(made, tmp_path / S).sha256 == before


def recipe_text(one):
    return bytes(one.state_dict()["lottapack_recipe"].tolist()).decode()


class Encoder(nn.Module):
    """A module of one's own around a configuration of a library."""

    def __init__(self):
        super().__init__()
        from transformers import GPT2Config

        self.config = GPT2Config(n_embd=16)
        self.fc = nn.Linear(16, 16)


def test_a_configuration_inside_a_module_of_ones_own_is_compared(tmp_path):
    made = lottapack.scaffold(lottapack.build("python", f"{__name__}:Encoder"), seed=1, rank=2, targets="fc")
    lottapack.pack(made, tmp_path / S)
    made.config.layer_norm_epsilon = 1e-3
    with pytest.raises(CheckpointError, match=r"^config\.layer_norm_epsilon is 0\.001; in a .* it is 1e-05"):
        lottapack.pack(made, tmp_path / S)


def test_a_configuration_of_a_library_whose_class_is_named_is_compared(tmp_path):
    config = {"class": "transformers:GPT2Config", "config": {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 20}}
    made = lottapack.build("python", "transformers:GPT2LMHeadModel", config=config)
    made = lottapack.scaffold(made, seed=1, rank=2)
    lottapack.pack(made, tmp_path / S)
    made.config.scale_attn_weights = False
    with pytest.raises(CheckpointError, match=r"config\.scale_attn_weights is False; in a .* it is True"):
        lottapack.pack(made, tmp_path / S)


class Watched:
    """An object that holds itself, and one of a package that watches."""

    def __init__(self):
        self.own, self.generator, self.count = self, torch.Generator(), 1
        self._sources = {}


class Recorder(nn.Module):
    """Holds such an object."""

    def __init__(self):
        super().__init__()
        self.fc, self.watched = nn.Linear(16, 16), Watched()


def test_objects_that_hold_themselves_end_and_observers_are_passed_over(tmp_path):
    made = lottapack.scaffold(lottapack.build("python", f"{__name__}:Recorder"), seed=1, rank=2, targets="fc")
    made.watched.generator = torch.Generator().manual_seed(3)
    made.watched.new = 3
    lottapack.pack(made, tmp_path / S)
    made.watched.count = 2
    with pytest.raises(CheckpointError, match=r"^watched\.count is 2; in a .* it is 1"):
        lottapack.pack(made, tmp_path / S)


def test_caches_inside_the_objects_of_an_installed_package_are_passed_over(tmp_path, monkeypatch):
    package = types.ModuleType("inspectors")
    package.__file__ = "/usr/lib/python3/site-packages/inspectors/__init__.py"
    monkeypatch.setitem(sys.modules, "inspectors", package)
    monkeypatch.setattr(Watched, "__module__", "inspectors")
    made = lottapack.scaffold(lottapack.build("python", f"{__name__}:Recorder"), seed=1, rank=2, targets="fc")
    made.watched._sources["forward"] = "def forward(self): ..."
    lottapack.pack(made, tmp_path / S)
    made.watched.count = 2
    with pytest.raises(CheckpointError, match=r"^watched\.count is 2; in a .* it is 1"):
        lottapack.pack(made, tmp_path / S)


def test_a_long_text_is_compared_to_its_end_and_named_by_its_beginning():
    built = said("a" * 1000 + "b")
    assert len(built) < 400
    assert built != said("a" * 1000 + "c")
    assert built == said("a" * 1000 + "b")


class OneSlot:
    """An object whose slots are written as one name, and are private."""

    __slots__ = "__factor"

    def __init__(self):
        self.__factor = 1.0

    def change(self):
        self.__factor = 2.0


class WithSlot(nn.Module):
    """Holds such an object."""

    def __init__(self):
        super().__init__()
        self.fc, self.held = nn.Linear(16, 16), OneSlot()


def test_a_single_private_slot_is_compared(tmp_path):
    made = lottapack.scaffold(lottapack.build("python", f"{__name__}:WithSlot"), seed=1, rank=2, targets="fc")
    lottapack.pack(made, tmp_path / S)
    made.held.change()
    with pytest.raises(CheckpointError, match=r"^held\._OneSlot__factor is 2; in a .* it is 1"):
        lottapack.pack(made, tmp_path / S)
