"""What was done to the layers of a scaffolded model since, and no tensor of a checkpoint tells."""

from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lottapack import rng
from lottapack.arch.as_built import has_values, plain_modules
from lottapack.arch.noted import noted
from lottapack.arch.skeleton import WRAPPERS
from lottapack.format import dtypes
from lottapack.format.names import ADAPTER_PARTS, WEIGHT, adapter_prefix, leaf_prefix, parameter_of
from lottapack.format.recipe import AdaptedRecipe, Change, Recipe, SeededRecipe, scaling_factor
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
    return found | _ties(model, plan)


_SAMPLE = 256
"""How many elements of a generated weight are compared with what its seed gives."""


@torch.no_grad()
def changed_backbones(model: nn.Module, plan: Recipe, saved: Collection[str]) -> dict[str, Change]:
    """Return the generated weights that are no longer what their seeds give, and that no checkpoint holds, by name.

    A sample of each is drawn again. It may differ by what rounding does, as in averages over buffers.

    Args: model; plan, its recipe; saved, the names in its state_dict.
    """
    held = {parameter_of(name, plan.parameters) for name in saved}
    modules, found = dict(plain_modules(model)), {}
    for name, entry in plan.parameters.items():
        prefix, _, leaf = name.rpartition(".")
        module = modules.get(prefix)
        source = None if module is None else noted(module).sources.get(leaf)
        if name in held or source is None or not isinstance(entry, AdaptedRecipe | SeededRecipe):
            continue
        assert module is not None
        weight = module._buffers.get(held_as(module, leaf))
        seen = weight is not None and has_values(weight)
        if source.name != name or (seen and not _as_drawn(weight, source)):  # a module may have changed its place
            found[name] = Change(now="is not what its seed gives", due="follows from it")
    return found


def _as_drawn(weight: Any, source: rng.Source) -> bool:
    places, drawn = _sample(source, weight.numel())
    places, wide = places.to(weight.device), drawn.to(weight.dtype).float()
    now = weight.view(-1)[places] if weight.is_contiguous() else weight[torch.unravel_index(places, weight.shape)]
    return bool((now.cpu().float() - wide).abs().max() <= 0.02 * wide.abs().max())


@lru_cache(maxsize=4096)
def _sample(source: rng.Source, count: int) -> tuple[Tensor, Tensor]:
    """The numbers of some elements of a weight of ``count``, and what its seed gives there."""
    places = np.unique(np.random.default_rng(count).integers(count, size=_SAMPLE, dtype=np.int64))
    drawn = torch.empty(len(places), dtype=dtypes.torch_dtype(source.dtype), device="cpu")
    rng.fill_runs_(drawn, source, places, np.ones_like(places))
    return torch.from_numpy(places), drawn


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


def _ties(model: nn.Module, plan: Recipe) -> dict[str, Change]:
    """Parameters that have become one since."""
    owners: dict[int, tuple[str, str]] = {}
    found = {}
    for long, parameter in model.named_parameters(remove_duplicate=False):
        name = _plain(long)
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


def _plain(name: str) -> str:
    return ".".join(step for step in name.split(".") if step not in WRAPPERS)
