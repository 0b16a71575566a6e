"""Which layers of a model do without their backbone in memory, and what memory that leaves for the parts they make."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

import torch
from torch import Tensor, nn

from lottapack.errors import LimitError, ScaffoldError, UnsupportedError
from lottapack.format import dtypes
from lottapack.format.factors import adapter_shapes
from lottapack.format.recipe import AdaptedRecipe, Recipe, SeededRecipe, TiedRecipe
from lottapack.format.shapes import numel
from lottapack.nn.attach import locate
from lottapack.nn.layer_weight import SOURCES
from lottapack.nn.rows import virtual_class
from lottapack.nn.select import matches
from lottapack.nn.tied_head import leave_alone
from lottapack.nn.virtual import VirtualLayer, make_virtual
from lottapack.products import IN_REGISTERS

Backbone = str | Mapping[str, str] | Callable[[str, tuple[int, ...]], str]
"""One of MODES for all layers; or by name or pattern, the first that fits; or a function of a weight's name and shape.

What no pattern names is materialised.
"""

MATERIALISED: Final = "materialised"
MODES: Final = (MATERIALISED, "virtual", "blocks")
"""In memory; made in registers, as tables with a kernel for it allow; or made in blocks, as all tables allow."""

_MOST: Final = 2**63 - 1  # that an operator's integer holds
_SHOWN: Final = 4
"""How many names a line of the log lists."""

Generated = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape and table of each generated weight by name."""


def choose(backbone: Backbone, generated: Generated) -> dict[str, str]:
    """The mode of each weight that is not to be materialised.

    Raises ScaffoldError for a mode that there is not or a pattern that fits nothing; UnsupportedError, by name, for a
    weight that has no kernel to be virtual.
    """
    if isinstance(backbone, Mapping):
        _require_used(backbone, generated)
    found = {}
    for name, (shape, table) in generated.items():
        mode = _mode(backbone, name, shape)
        if mode not in MODES:
            raise ScaffoldError(f"{name}: backbone={mode!r}", hint=f"Choose one of {', '.join(MODES)}.")
        if mode == "virtual" and table not in IN_REGISTERS:
            raise UnsupportedError(
                f"{name} cannot be virtual: no kernel makes {table} weights in registers",
                hint='backbone="blocks" makes any weights a block at a time; virtual are those of '
                f"{', '.join(IN_REGISTERS)}.",
            )
        if mode != MATERIALISED:
            found[name] = mode
    return found


def generated_by(plan: Recipe) -> Generated:
    """What choose() has to know of a recipe."""
    return {
        name: (tuple(entry.shape), entry.distribution)
        for name, entry in plan.parameters.items()
        if isinstance(entry, SeededRecipe | AdaptedRecipe)
    }


def _mode(backbone: Backbone, name: str, shape: tuple[int, ...]) -> str:
    if isinstance(backbone, Mapping):
        pattern = _first(backbone, name)
        return MATERIALISED if pattern is None else backbone[pattern]
    return backbone(name, shape) if callable(backbone) else backbone


def _require_used(patterns: Iterable[str], generated: Generated) -> None:
    names = {*generated, *(name.rpartition(".")[0] for name in generated)}
    deciding = {_first(patterns, name) for name in generated}
    for pattern in patterns:
        if not any(matches(pattern, name) for name in names):
            raise ScaffoldError(
                f"backbone: no generated layer is called {pattern!r}", hint="See model.named_modules() for the names."
            )
        if pattern not in deciding and pattern != "*":
            raise ScaffoldError(
                f"backbone: {pattern!r} decides nothing, because other patterns stand before it",
                hint="The first pattern that names a layer counts: put the narrower one first.",
            )


def _first(patterns: Iterable[str], name: str) -> str | None:
    """The first pattern that names a weight or its layer."""
    layer = name.rpartition(".")[0]
    return next((pattern for pattern in patterns if matches(pattern, layer) or matches(pattern, name)), None)


def with_forms(model: nn.Module, plan: Recipe, chosen: Mapping[str, str], backbone: Backbone) -> dict[str, str]:
    """What of the chosen weights can do without memory, where one mode is asked for all layers alike.

    What cannot, as experts and recurrent weights, stays in memory, and a line of the log says so. What is chosen by
    name or by a function is returned as it is, for require_forms() to refuse.
    """
    if not isinstance(backbone, str):
        return dict(chosen)
    without = {owner for name, owner in _with_ties(plan, chosen).items() if not _has_form(model, name)}
    if without:
        shown = ", ".join(sorted(without)[:_SHOWN])
        more = f" and {len(without) - _SHOWN} more" if len(without) > _SHOWN else ""
        logging.getLogger("lottapack").warning(
            "backbone=%r: %s%s stay in memory, as their layers have no form without a weight", backbone, shown, more
        )
    return {name: mode for name, mode in chosen.items() if name not in without}


def _has_form(model: nn.Module, name: str) -> bool:
    module, leaf = locate(model, name)
    return leaf == "weight" and virtual_class(module) is not None


def require_forms(model: nn.Module, plan: Recipe, chosen: Iterable[str], left: int | None) -> None:
    """Raise where a weight cannot be in no memory; nothing is changed yet.

    Args:
        model: plain, before attach().
        plan: its recipe.
        chosen: names of weights.
        left: bytes of memory for the part of a weight that is there at a time, or None.

    Raises:
        UnsupportedError: naming a layer that has no such form. LimitError: not one row of a weight fits.
    """
    sources = plan.sources()
    for name, owner in _with_ties(plan, chosen).items():
        module, leaf = locate(model, name)
        if owner not in sources:
            raise _impossible(name, f"the weights of {plan.rng.id} cannot be made in parts")
        if not _has_form(model, name):
            raise _impossible(name, f"{leaf} of a {type(module).__name__} has no form without a backbone")
        if sources[owner].matrix is not None:
            raise _impossible(name, f"{sources[owner].table.id} weights have no form without a backbone")
        entry = plan.parameters[owner]
        assert isinstance(entry, SeededRecipe | AdaptedRecipe)
        row = numel(entry.shape[1:]) * dtypes.ITEMSIZE[entry.dtype]
        if left is not None and left < row:
            raise LimitError(
                f"{name}: one row of it takes {row:,} bytes, and max_bytes leaves {max(left, 0):,}",
                hint="Pass a larger max_bytes: it counts what is stored, adapters, and the largest block.",
            )


def virtualise(model: nn.Module, plan: Recipe, chosen: Iterable[str], left: int | None) -> None:
    """Let layers do without their weights, in place, after attach() and before any weight is generated.

    Arguments are those of require_forms(), which found nothing. What is tied to a weight goes with it.
    """
    for name, owner in _with_ties(plan, chosen).items():
        module = locate(model, name)[0]
        source = locate(model, owner)[0].__dict__[SOURCES]["weight"]
        form = virtual_class(module)
        if form is not None:  # else it is one layer under two names
            make_virtual(module, form, source, min(left or 0, _MOST))
        if name != owner:
            leave_alone(model, {name, owner})


def _with_ties(plan: Recipe, chosen: Iterable[str]) -> dict[str, str]:
    """The chosen names and those tied to them; of each the weight's own name."""
    owners = {name: name for name in chosen}
    tied = {name: plan.resolve(name) for name, entry in plan.parameters.items() if isinstance(entry, TiedRecipe)}
    return owners | {name: owner for name, owner in tied.items() if owner in owners}


def _impossible(name: str, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name} cannot be virtual: {why}",
        hint='Keep it in memory: backbone={PATTERN: "virtual"} names the layers that do without.',
    )


def settle(model: nn.Module, device: torch.device, dtype: torch.dtype | None) -> None:
    """Let the weights of virtual layers count as on a device, and in a dtype, None for the recorded one."""
    for module in model.modules():
        if isinstance(module, VirtualLayer):
            kind = dtypes.torch_dtype(module.__dict__[SOURCES]["weight"].dtype) if dtype is None else dtype
            module.weight_like = torch.empty(0, dtype=kind, device=device)


def needed_bytes(model: nn.Module, plan: Recipe, chosen: Collection[str]) -> int:
    """Bytes of a plain model's tensors, each once, and of its recipe's adapters, without the chosen weights."""
    tensors: dict[int, Tensor] = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    total = sum(tensor.nbytes for tensor in tensors.values())
    for name, entry in plan.parameters.items():
        if name in chosen:
            module, leaf = locate(model, name)
            total -= getattr(module, leaf).nbytes
        if isinstance(entry, AdaptedRecipe):
            shapes = adapter_shapes(entry)
            total += sum(numel(shapes[part]) for part in entry.parts) * dtypes.ITEMSIZE[entry.dtype]
    return total
