"""Choose the layers whose backbone is not in memory, and the memory for the parts that they generate."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

import torch
from torch import Tensor, nn

from lottapack.arch.noted import noted
from lottapack.errors import LimitError, ScaffoldError, UnsupportedError
from lottapack.format import dtypes
from lottapack.format.factors import adapter_shapes
from lottapack.format.names import WEIGHT
from lottapack.format.recipe import AdaptedRecipe, Recipe, SeededRecipe, TiedRecipe
from lottapack.format.shapes import numel
from lottapack.nn.any_module import form_of
from lottapack.nn.attach import locate
from lottapack.nn.generated import generated_of
from lottapack.nn.generated_layer import make_virtual
from lottapack.nn.kinds import changes_itself, takes_any_form
from lottapack.nn.rows import row_of, virtual_class
from lottapack.nn.select import matches
from lottapack.nn.tied_head import leave_alone
from lottapack.products import IN_REGISTERS

Backbone = str | Mapping[str, str] | Callable[[str, tuple[int, ...]], str]
"""One of MODES for all layers; or by name or pattern, the first that fits; or a function of a weight's name and shape.

Layers that no pattern names are materialised.
"""

MATERIALISED: Final = "materialised"
MODES: Final = (MATERIALISED, "virtual", "blocks")
"""In memory; generated in registers, for tables with a kernel for it; or generated in blocks, for all tables."""

_MOST: Final = 2**63 - 1  # the largest integer argument of an operator
_SHOWN: Final = 4
"""How many names a line of the log lists."""

Generated = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape and table of each generated weight by name."""


def choose(backbone: Backbone, generated: Generated) -> dict[str, str]:
    """Return the mode of each weight that is not to be materialised.

    Raises ScaffoldError for an unknown mode or a pattern that matches nothing; UnsupportedError, by name, for a
    weight whose table has no kernel for virtual weights.
    """
    if isinstance(backbone, Mapping):
        for pattern in backbone:
            if not isinstance(pattern, str):
                raise ScaffoldError(
                    f"backbone: {pattern!r} must be a name or a pattern of layers, as text",
                    hint="See model.named_modules() for the names.",
                )
        _require_used(backbone, generated)
    found = {}
    for name, (shape, table) in generated.items():
        mode = _mode(backbone, name, shape)
        if mode not in MODES:
            raise ScaffoldError(f"{name}: unknown `backbone={mode!r}`", hint=f"Choose one of {', '.join(MODES)}.")
        if mode == "virtual" and table not in IN_REGISTERS:
            raise UnsupportedError(
                f"{name} cannot be virtual: {table} weights have no kernel that generates them in registers",
                hint='Use `backbone="blocks"`, which makes any weights in blocks. Only these tables can be virtual: '
                f"{', '.join(IN_REGISTERS)}.",
            )
        if mode != MATERIALISED:
            found[name] = mode
    return found


def generated_by(plan: Recipe) -> Generated:
    """Return the shape and table of each generated weight of a recipe, for choose()."""
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
                f"backbone: {pattern!r} has no effect, because earlier patterns match its layers",
                hint="The first matching pattern counts. Put the narrower pattern first.",
            )


def _first(patterns: Iterable[str], name: str) -> str | None:
    """Return the first pattern that names a weight or its layer."""
    layer = name.rpartition(".")[0]
    return next((pattern for pattern in patterns if matches(pattern, layer) or matches(pattern, name)), None)


def with_forms(model: nn.Module, plan: Recipe, chosen: Mapping[str, str], backbone: Backbone) -> dict[str, str]:
    """Return the chosen weights that support their mode, if one mode was requested for all layers.

    The others stay in memory, and a warning is logged. Weights chosen by name or by a function are all returned, and
    require_forms() refuses those without support.
    """
    if not isinstance(backbone, str):
        return dict(chosen)
    without = {owner for name, owner in _with_ties(plan, chosen).items() if not _has_form(model, name)}
    if without:
        shown = ", ".join(sorted(without)[:_SHOWN])
        more = f" and {len(without) - _SHOWN} more" if len(without) > _SHOWN else ""
        logging.getLogger("lottapack").warning(
            "backbone=%r: %s%s stay in memory, because their layers do not support virtual weights",
            backbone,
            shown,
            more,
        )
    return {name: mode for name, mode in chosen.items() if name not in without}


def _has_form(model: nn.Module, name: str) -> bool:
    module, leaf = locate(model, name)
    return (leaf == WEIGHT and virtual_class(module) is not None) or _is_readable(module, leaf)


def _is_readable(module: nn.Module, leaf: str) -> bool:
    """Return whether the code of a plain module can read a parameter that is not in memory."""
    if changes_itself(module) or row_of(module) is not None or not takes_any_form(module):
        return False
    try:
        form_of(type(module), frozenset({leaf}))
    except TypeError:
        return False
    return True


def require_forms(model: nn.Module, plan: Recipe, chosen: Mapping[str, str], left: int | None) -> None:
    """Raise if a weight must be in memory. The model is not changed.

    Args:
        model: plain, before attach().
        plan: its recipe.
        chosen: the mode of each weight by name.
        left: bytes of memory for the part of a weight that is generated at a time, or None.

    Raises:
        UnsupportedError: a layer must be in memory; the message names it.
        LimitError: a single row of a weight does not fit, or a whole weight that the module's own code reads.
    """
    sources = plan.sources()
    for name, owner in _with_ties(plan, chosen).items():
        module, leaf = locate(model, name)
        if owner not in sources:
            raise _impossible(name, chosen[owner], f"the weights of {plan.rng.id} cannot be generated in parts")
        if not _has_form(model, name):
            raise _impossible(name, chosen[owner], f"{leaf} of a {type(module).__name__} must be in memory")
        if sources[owner].matrix is not None:
            raise _impossible(name, chosen[owner], f"{sources[owner].table.id} weights must be in memory")
        entry = plan.parameters[owner]
        assert isinstance(entry, SeededRecipe | AdaptedRecipe)
        in_rows = leaf == WEIGHT and virtual_class(module) is not None
        least = numel(entry.shape[1:] if in_rows else entry.shape) * dtypes.ITEMSIZE[entry.dtype]
        if left is not None and left < least:
            what = "one row" if in_rows else "the whole weight, which the module's own code reads,"
            raise LimitError(
                f"{name}: {what} needs {least:,} bytes, but `max_bytes` leaves only {max(left, 0):,}",
                hint="Pass a larger `max_bytes`. It covers stored tensors, adapters, and the largest block.",
            )


def virtualise(model: nn.Module, plan: Recipe, chosen: Iterable[str], left: int | None) -> None:
    """Make layers generate their weights at use, in place. Call it after attach() and before any weight is generated.

    The arguments are those of require_forms(), which did not raise. Weights tied to a chosen one are included.
    """
    for name, owner in _with_ties(plan, chosen).items():
        module, leaf = locate(model, name)
        owner_module, owner_leaf = locate(model, owner)
        if generated_of(module, leaf) is None:  # else it is one layer under two names
            form = virtual_class(module) if leaf == WEIGHT else None
            make_virtual(module, leaf, form, noted(owner_module).sources[owner_leaf], min(left or 0, _MOST))
        if name != owner:
            leave_alone(model, {name, owner})


def _with_ties(plan: Recipe, chosen: Iterable[str]) -> dict[str, str]:
    """Return the chosen names and the names tied to them, each with the name of its owner."""
    owners = {name: name for name in chosen}
    tied = {name: plan.resolve(name) for name, entry in plan.parameters.items() if isinstance(entry, TiedRecipe)}
    return owners | {name: owner for name, owner in tied.items() if owner in owners}


def _impossible(name: str, mode: str, why: str) -> UnsupportedError:
    what = "be virtual" if mode == "virtual" else "be generated in blocks"
    return UnsupportedError(
        f"{name} cannot {what}: {why}",
        hint=f'Keep it in memory: name only other layers, such as backbone={{PATTERN: "{mode}"}}.',
    )


def settle(model: nn.Module, device: torch.device, dtype: torch.dtype | None) -> None:
    """Set the device and dtype of the weights of virtual layers; the dtype None is the recorded one."""
    for module in model.modules():
        for generated in noted(module).virtual.values():
            kind = dtypes.torch_dtype(generated.source.dtype) if dtype is None else dtype
            generated.like = torch.empty(0, dtype=kind, device=device)
            generated.draw_again()


def needed_bytes(model: nn.Module, plan: Recipe, chosen: Collection[str]) -> int:
    """Return bytes of a plain model's tensors, each once, and of its recipe's adapters, without the chosen weights."""
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
