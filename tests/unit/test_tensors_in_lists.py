"""Tensors in lists, tuples and dicts of a module: no state_dict holds them, and the constructor makes them again."""

import re
from collections import namedtuple
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import lottapack
from lottapack.arch.skeleton import computed_tensors
from lottapack.errors import ArchitectureError, CheckpointError, ScaffoldError

Pair = namedtuple("Pair", "one two")


class Net(nn.Module):
    """Two layers, and what they multiply with in containers."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 2)
        a, b = torch.arange(8.0).sin(), torch.arange(8.0).cos()
        if kind == "list":
            self.held = [a, b]
        elif kind == "tuple":
            self.held = (a, [b, 3])
        elif kind == "dict":
            self.held = {"a.b": {1: a}, "c": [b], "words": ["x"]}
        elif kind == "pair":
            self.held = Pair(a, b)
        elif kind == "weights":
            self.held = [self.first.weight, self.last.weight]
        else:
            self.held = [torch.randn(8), b]

    def tensors(self) -> list[torch.Tensor]:
        found, waiting = [], [self.held]
        for one in waiting:
            if isinstance(one, torch.Tensor):
                found.append(one)
            elif isinstance(one, dict):
                waiting += one.values()
            elif isinstance(one, list | tuple):
                waiting += one
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x)
        for one in self.tensors():
            hidden = hidden * one
        return self.last(hidden)


def net(kind):
    return lottapack.build("python", "test_tensors_in_lists:Net", kind=kind)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "pair"])
def test_they_come_back(kind, dtype, tmp_path):
    model = lottapack.scaffold(net(kind), seed=1, rank=2).to(dtype)
    path, x = tmp_path / "model.lotta.safetensors", torch.randn(3, 8)
    lottapack.pack(model, path)
    loaded = lottapack.load(path, allow=["test_tensors_in_lists"])
    assert type(loaded.held) is type(model.held)
    assert [one.tolist() for one in loaded.tensors()] == [one.tolist() for one in model.tensors()]
    x = x.to(dtype)
    if dtype == torch.float32:
        assert torch.equal(loaded(x), model(x))
    whole = lottapack.distributed.load_meta(path, allow=["test_tensors_in_lists"])
    lottapack.distributed.fill_(whole, path, allow=["test_tensors_in_lists"])
    assert [one.tolist() for one in whole.tensors()] == [one.tolist() for one in model.tensors()]


def test_casts_of_them_come_back(tmp_path):
    model = lottapack.scaffold(net("tuple"), seed=1, rank=2)
    model.held = (model.held[0].bfloat16(), [model.held[1][0].bfloat16(), 3])
    lottapack.pack(model, tmp_path / "model.lotta.safetensors")
    loaded = lottapack.load(tmp_path / "model.lotta.safetensors", allow=["test_tensors_in_lists"])
    assert [one.dtype for one in loaded.tensors()] == [torch.bfloat16] * 2


def test_random_ones_are_refused():
    with pytest.raises(ArchitectureError, match=r"cannot compute held\[0\] without weights"):
        lottapack.scaffold(net("random"), seed=1, rank=2)


def test_weights_of_the_model_are_refused():
    with pytest.raises(ScaffoldError, match=r"^first\.weight is also in held\[0\]"):
        lottapack.scaffold(net("weights"), seed=1, rank=2)


def test_changed_ones_are_refused(tmp_path):
    model = lottapack.scaffold(net("list"), seed=1, rank=2)
    model.held[1] = model.held[1] + 1
    with pytest.raises(CheckpointError, match=r"held\[1\]"):
        lottapack.pack(model, tmp_path / "model.lotta.safetensors")


def test_lists_of_a_models_own_buffers_are_not_computed():
    """As DDP has them of the model that it wraps."""

    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module
            self.all = [*module.parameters(), *module.buffers()]

    model = lottapack.scaffold(net("list"), seed=1, rank=2)
    assert list(computed_tensors(Wrapper(model))) == [
        (f"module.{name}", tensor) for name, tensor in computed_tensors(model)
    ]


class Elsewhere(nn.Module):
    """Reads a tensor of its state_dict from another place than its name."""

    def __init__(self, place: str, more: bool = True) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)
        self.scale = nn.Parameter(torch.ones(8))
        self.register_buffer("table", torch.ones(8))
        if more:  # with a tensor that no checkpoint holds, the module is built with real small tensors
            self.register_buffer("steps", torch.arange(8.0), persistent=False)
        scale, table = self.scale, self.table
        if place == "default":
            self.held = lambda x, by=scale: x * by
        elif place == "closure":
            self.held = lambda x: x * scale
        elif place == "view":
            part = table[2:]
            self.held = lambda x: x * part.sum()
        elif place == "hook":
            self.last.register_forward_hook(lambda module, args, out: out * table)
        elif place == "slots":
            self.held = Slots(table)
        else:
            self.held = {
                "method": scale.mul,
                "partial": partial(torch.mul, table),
                "attribute": table,
                "list": [table],
                "object": SimpleNamespace(by=scale),
                "data": scale.data,
                "deep": [{"a": (table, 1)}],
            }[place]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x))


class Slots:
    __slots__ = ("by",)

    def __init__(self, by: torch.Tensor) -> None:
        self.by = by


PLACES = {
    "default": "scale is also in held(default 0)",
    "closure": "scale is also in held.scale",
    "hook": "table is also in last._forward_hooks[",
    "slots": "table is also in held.by",
    "method": "scale is also in held.__self__",
    "partial": "table is also in held(0)",
    "attribute": "table is also in held",
    "list": "table is also in held[0]",
    "object": "scale is also in held.by",
    "data": "scale is also in held",
    "view": "table is also in held.part",
    "deep": "table is also in held[0][a][0]",
}


@pytest.mark.parametrize("more", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_tensors_of_the_state_dict_in_other_places_are_refused(place, more, monkeypatch):
    """Loading replaces them, so such a place would keep the constructor's values, or no values at all."""
    model = lottapack.build("python", "test_tensors_in_lists:Elsewhere", place=place, more=more)
    with pytest.raises(ScaffoldError, match=rf"^{re.escape(PLACES[place])}"):
        lottapack.scaffold(model, seed=1, rank=2, targets=["first"])
    monkeypatch.setattr("lottapack.nn.scaffolding.require_named", lambda _: None)
    with pytest.raises(ArchitectureError, match=rf"{re.escape(PLACES[place])}"):
        lottapack.scaffold(model, seed=1, rank=2, targets=["first"])


class Memory:
    def __init__(self) -> None:
        self.seen = torch.zeros(8)

    def add(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.seen


class Remembering(nn.Module):
    """Reads a tensor that is no weight from around a function."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)
        memory = Memory()
        seen = memory.seen
        if place == "closure":
            self.held = lambda x: x + seen
        elif place == "default":
            self.held = lambda x, seen=seen: x + seen
        elif place == "nested":

            def inner(x):
                return x + memory.seen

            self.held = lambda x: inner(x)
        else:
            self.held = {"method": memory.add, "builtin": seen.add, "partial": partial(torch.add, seen)}[place]
        self.change = [seen.__setitem__]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.held(self.last(self.first(x)))


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("place", ["closure", "default", "nested", "method", "builtin", "partial"])
def test_what_functions_read_from_around_them_is_compared(place, changed, tmp_path):
    model = lottapack.scaffold(
        lottapack.build("python", "test_tensors_in_lists:Remembering", place=place), seed=1, rank=2
    )
    path, x = tmp_path / "model.lotta.safetensors", torch.randn(3, 8)
    if changed:
        model.change[0](0, 3.0)
        with pytest.raises(CheckpointError, match=r"held.* has other values"):
            lottapack.pack(model, path)
    else:
        lottapack.pack(model, path)
        assert torch.equal(lottapack.load(path, allow=["test_tensors_in_lists"])(x), model(x))


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.utils.spectral_norm(nn.Linear(8, 8)), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x))


def test_the_former_spectral_norm_keeps_a_view_of_its_weight(tmp_path):
    model = lottapack.scaffold(
        lottapack.build("python", "test_tensors_in_lists:Normed"), seed=1, rank=2, targets=["last"]
    ).eval()
    path, x = lottapack.pack(model, tmp_path / "model.lotta.safetensors").path, torch.randn(3, 8)
    assert torch.equal(lottapack.load(path, allow=["test_tensors_in_lists"])(x), model(x))
