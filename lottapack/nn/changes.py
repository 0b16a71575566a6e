"""What was done to the layers of a scaffolded model since, and no tensor of a checkpoint tells."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lottapack import rng
from lottapack.arch.as_built import plain_modules
from lottapack.arch.noted import noted, notes
from lottapack.arch.said import has_values
from lottapack.arch.skeleton import plain_name
from lottapack.errors import DeviceError
from lottapack.format import dtypes
from lottapack.format.names import ADAPTER_PARTS, WEIGHT, adapter_prefix, leaf_prefix, parameter_of
from lottapack.format.recipe import AdaptedRecipe, Change, Recipe, SeededRecipe, TiedRecipe, scaling_factor
from lottapack.nn.any_module import numbers_of
from lottapack.nn.generated_layer import held_as
from lottapack.nn.layers import AdapterLayer


def changes_of_layers(model: nn.Module, plan: Recipe) -> dict[str, Change]:
    """Return layers that lost their adapter, scale it otherwise, or froze a part of it, and new ties, by place."""
    modules = dict(plain_modules(model))
    found: dict[str, Change] = {}
    for name, entry in plan.parameters.items():
        layer = modules.get(name.rpartition(".")[0])
        if isinstance(entry, AdaptedRecipe) and layer is not None:
            found |= dict(_of_layer(name, entry, layer))
    frozen = {name: change for name, change in found.items() if change.now == _FROZEN}
    if frozen and not any(parameter.requires_grad for parameter in model.parameters()):
        found = {name: change for name, change in found.items() if name not in frozen}  # to evaluate it
    return found | _ties(model, plan) | _heads(modules, plan)


_NARROW: Final = torch.bfloat16, torch.float16

_AVERAGED: Final = 2**-9
"""What averages over a float32 buffer may add to an element, relative to the largest."""

_ROUNDED: Final = 0.02
"""The same where elements are rounded to a narrow dtype."""

_FEW: Final = 1 / 32
"""Averages and casts change more of the elements than this."""

_SMALL: Final = 2**14
"""All elements are in the sample of a weight of up to this many."""

_MORE: Final = 256
"""How many elements of a larger one are in its sample, beside two of each row and of each column."""


class Sample(NamedTuple):
    """Some elements of a weight as it was drawn, their places, and its fingerprint in a dtype, if that is known."""

    places: Tensor
    drawn: Tensor
    fingerprint: Callable[[str], int | None]


@torch.no_grad()
def changed_backbones(model: nn.Module, plan: Recipe, saved: Collection[str]) -> dict[str, Change]:
    """Return the generated weights that are no longer what their seeds give, and that no checkpoint holds, by name.

    A sample of each shows what kind of change it is: rounding, as in averages over buffers, does not count. If the
    sample is as it was, the fingerprint tells of the rest.

    Args: model; plan, its recipe; saved, the names in its state_dict.
    """
    held = {parameter_of(name, plan.parameters) for name in saved}
    found = {}
    for name, module, leaf in _generated(model, plan):
        if name in held:
            continue
        source, sample = noted(module).sources.get(leaf), noted(module).samples.get(leaf)
        moved = source is not None and not _is_source_of(source, name, plan)
        weight = _in_memory(module, leaf)
        if weight is not None and source is not None:
            sample = _sample(source, weight.shape)
        if moved or not (weight is None or sample is None or _is_as_drawn(weight, sample)):
            found[name] = Change(now="is not what its seed gives", due="follows from it")
    return found


def _is_source_of(source: rng.Source, name: str, plan: Recipe) -> bool:
    """Return whether a recipe draws a weight from a source: a module may come from elsewhere, or another model."""
    entry = plan.parameters[name]
    assert isinstance(entry, AdaptedRecipe | SeededRecipe)
    drawn = name, plan.table_of(entry.distribution), entry.scale
    return source.seed in plan.seeds.values() and (source.name, source.table, source.scale) == drawn


def note_samples(model: nn.Module, plan: Recipe) -> None:
    """Note a sample and the fingerprint of each weight that torch drew, because no source draws these again."""
    if plan.rng.id == rng.TORCH_CPU:
        for _, module, leaf in _generated(model, plan):
            weight = _in_memory(module, leaf)
            if weight is not None and weight.numel():
                places, dtype = _places(weight.shape), _dtype(weight)
                known = {dtype: _fingerprint(weight)} if dtype in dtypes.GENERATED else {}
                notes(module).samples[leaf] = Sample(places, _at(weight, places), known.get)


def _generated(model: nn.Module, plan: Recipe) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield the name of each generated parameter, its module, and its last name there."""
    modules = dict(plain_modules(model))
    for name, entry in plan.parameters.items():
        prefix, _, leaf = name.rpartition(".")
        if prefix in modules and isinstance(entry, AdaptedRecipe | SeededRecipe):
            yield name, modules[prefix], leaf


def _in_memory(module: nn.Module, leaf: str) -> Tensor | None:
    weight = module._buffers.get(held_as(module, leaf))
    return weight if weight is not None and has_values(weight) else None


def _is_as_drawn(weight: Tensor, sample: Sample, rounding: float | None = None) -> bool:
    """Return whether a weight equals the drawn one, apart from rounding: by default, that of averages."""
    now, due = _at(weight, sample.places), sample.drawn.to(weight.dtype)
    others = int((now != due).sum())
    if not others:
        return _rest_is_as_drawn(weight, sample)
    if others < _FEW * len(now):
        return False
    if rounding is None:
        if any(torch.equal(now, sample.drawn.to(narrow).to(weight.dtype)) for narrow in _NARROW):
            return False  # cast to a narrower dtype, and then to this one
        rounding = _AVERAGED if weight.dtype == torch.float32 else _ROUNDED
    wide = due.float()
    return bool((now.float() - wide).abs().max() <= rounding * wide.abs().max())


def _rest_is_as_drawn(weight: Tensor, sample: Sample) -> bool:
    """Return whether the fingerprint of a weight is that of what was drawn, if that can be told in its dtype."""
    if len(sample.places) == weight.numel():
        return True
    if weight.itemsize > sample.drawn.itemsize:
        weight = weight.to(sample.drawn.dtype)
    due = sample.fingerprint(_dtype(weight))
    return due is None or due == _fingerprint(weight)


def is_as_drawn(weight: Tensor, source: rng.Source) -> bool:
    """Return whether a weight follows from a source, apart from the rounding of averages and of a cast."""
    if weight.is_floating_point() and _dtype(weight) != source.dtype:
        return _is_as_drawn(weight, _sample(source, weight.shape), _ROUNDED)
    return _is_as_drawn(weight, _sample(source, weight.shape))


def is_drawn_from(weight: Tensor, source: rng.Source) -> bool:
    """Return whether a weight matches a source, within the rounding of a cast."""
    return _is_as_drawn(weight, _sample(source, weight.shape), _ROUNDED)


_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _at(weight: Tensor, places: Tensor) -> Tensor:
    """Return some elements of a weight, on the CPU.

    NumPy takes them in this thread. torch would wait for others, for 10 ms a weight where all processors are busy.
    """
    plain = type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point()
    if plain and weight.is_cpu and weight.is_contiguous():
        bits = weight.detach().view(-1).view(_BITS[weight.itemsize]).numpy()
        return torch.from_numpy(bits[places.numpy()]).view(weight.dtype)
    there = places.to(weight.device)
    flat = weight.view(-1)[there] if weight.is_contiguous() else weight[torch.unravel_index(there, weight.shape)]
    return flat.cpu()


def _dtype(weight: Tensor) -> str:
    return str(weight.dtype).removeprefix("torch.")


def _fingerprint(weight: Tensor) -> int:
    try:
        return rng.fingerprint(weight.contiguous())
    except DeviceError:  # a model that only trains there must still be saved
        return rng.fingerprint(weight.cpu().contiguous())


def _sample(source: rng.Source, shape: torch.Size) -> Sample:
    """Return what a seed gives for a weight of this shape."""
    return Sample(_places(shape), _drawn(source, shape), partial(_fingerprint_of, source, math.prod(shape)))


@lru_cache(maxsize=4096)
def _drawn(source: rng.Source, shape: torch.Size) -> Tensor:
    places = _places(shape).numpy()
    drawn = torch.empty(len(places), dtype=dtypes.torch_dtype(source.dtype), device="cpu")
    if len(places) == math.prod(shape):  # all elements are one run, which is much faster
        return rng.fill_(drawn, source)
    return rng.fill_runs_(drawn, source, places, np.ones_like(places))


@lru_cache(maxsize=4096)
def _fingerprint_of(source: rng.Source, count: int, dtype: str) -> int | None:
    """Return the fingerprint of what a seed gives in a dtype; None for a dtype in which it cannot be drawn."""
    if dtype not in dtypes.GENERATED or rng.scale_fault(source.table, source.scale, dtype):
        return None
    return rng.fingerprints_on(torch.device("cpu"), [(replace(source, dtype=dtype), count)])[0]


def _places(shape: torch.Size) -> Tensor:
    """Return the numbers of the elements to compare.

    A row or a column that was set, as that of a padding token, must not be missed. One of its elements may be near
    what it was, so two of each are compared. A weight of more dimensions counts as the matrix that is nearest a square.
    """
    count = math.prod(shape)
    if count <= _SMALL:
        return torch.from_numpy(np.arange(count, dtype=np.int64))
    rows = min((math.prod(shape[:end]) for end in range(len(shape))), key=lambda size: max(size, count // size))
    columns = count // rows
    longer = max(rows, columns)
    steps = np.arange(longer, dtype=np.int64)
    lines = [steps % rows * columns + (steps + shift) % columns for shift in (0, 1)]
    more = np.random.default_rng(count).integers(count, size=_MORE, dtype=np.int64)
    return torch.from_numpy(np.unique(np.concatenate((*lines, more))))


_FROZEN = "does not train"


def _of_layer(name: str, entry: AdaptedRecipe, layer: nn.Module) -> Iterator[tuple[str, Change]]:
    """Places and changes of one module of which a parameter has an adapter."""
    where, _, leaf = name.rpartition(".")
    numbers: Any = layer if isinstance(layer, AdapterLayer) else numbers_of(layer, leaf)
    if numbers is None:
        if not any(noted(module).sources for module in layer.modules()):  # else it is inside a wrapper
            yield where, Change(now=f"is a {type(layer).__module__}.{type(layer).__qualname__}", due="has an adapter")
        return
    due = scaling_factor(entry.alpha, entry.rank, entry.scaling)
    prefix = adapter_prefix(name)
    if numbers.scaling != due:
        yield f"{prefix}scaling", Change(now=f"is {numbers.scaling!r}", due=f"is {due!r}")
    if numbers.fan_in_fan_out != entry.fan_in_fan_out:
        yield f"{prefix}fan_in_fan_out", Change(now=f"is {numbers.fan_in_fan_out}", due=f"is {entry.fan_in_fan_out}")
    for part in entry.parts:
        parameter = layer._parameters.get(leaf_prefix(leaf) + part)
        if parameter is not None and not parameter.requires_grad and part not in entry.frozen:
            yield prefix + part, Change(now=_FROZEN, due="trains")


def _heads(modules: Mapping[str, nn.Module], plan: Recipe) -> dict[str, Change]:
    """Heads that use the adapter of an embedding that is no longer in the model."""
    found = {}
    for name, entry in plan.parameters.items():
        where, _, leaf = name.rpartition(".")
        head, owner = modules.get(where), plan.resolve(name)
        used = None if head is None or leaf != WEIGHT else noted(head).embedding  # its bias may be tied elsewhere
        if isinstance(entry, TiedRecipe) and used not in (None, modules.get(owner.rpartition(".")[0])):
            found[name] = Change(now="uses an embedding that is not in the model", due=f"is tied to {owner}")
    return found


def _ties(model: nn.Module, plan: Recipe) -> dict[str, Change]:
    """Parameters that have become one since."""
    owners: dict[int, tuple[str, str]] = {}
    found = {}
    for long, parameter in model.named_parameters(remove_duplicate=False):
        name = plain_name(long)
        owner = _owner(name, plan)
        if owner is None:
            continue
        first, its_owner = owners.setdefault(id(parameter), (name, owner))
        if owner != its_owner:
            found[name] = Change(now=f"is tied to {first}", due="is a parameter of its own")
    return found


def _owner(name: str, plan: Recipe) -> str | None:
    """What owns a parameter by the recipe; None for what the recipe does not know."""
    if name in plan.parameters:
        return plan.resolve(name)
    for part in ADAPTER_PARTS:
        before = name.removesuffix(part)
        if before != name:
            weight = plan.resolve(before[:-1] if before.endswith("_") else before + WEIGHT)
            return f"{weight} {part}" if weight in plan.parameters else None
    return None
