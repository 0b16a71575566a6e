"""Which layers of a model do without their backbone in memory, and what memory that leaves for the parts they make."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import torch
from torch import Tensor, nn

from lottapack.errors import LimitError, ScaffoldError, UnsupportedError
from lottapack.format import dtypes
from lottapack.format.recipe import AdaptedRecipe, Recipe, SeededRecipe
from lottapack.format.shapes import numel
from lottapack.nn.attach import locate
from lottapack.nn.select import matches
from lottapack.nn.virtual import SOURCES, VirtualLayer, make_virtual, virtual_class
from lottapack.virtual.product import IN_REGISTERS

Backbone = str | Mapping[str, str] | Callable[[str, tuple[int, ...]], str]
"""One of MODES for all layers; or by name or pattern, the first that fits; or a function of a weight's name and shape.

What no pattern names is materialised.
"""

MATERIALISED: Final = "materialised"
MODES: Final = (MATERIALISED, "virtual", "blocks")
"""In memory; made in registers, as tables allow it that have a kernel for it; or made in blocks, as all tables allow."""

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
        layer = name.rpartition(".")[0]
        fits = (mode for pattern, mode in backbone.items() if matches(pattern, layer) or matches(pattern, name))
        return next(fits, MATERIALISED)
    return backbone if isinstance(backbone, str) else backbone(name, shape)


def _require_used(patterns: Iterable[str], generated: Generated) -> None:
    names = {*generated, *(name.rpartition(".")[0] for name in generated)}
    for pattern in patterns:
        if not any(matches(pattern, name) for name in names):
            raise ScaffoldError(
                f"backbone: no generated layer is called {pattern!r}", hint="See model.named_modules() for the names."
            )


def virtualise(model: nn.Module, plan: Recipe, chosen: Iterable[str], left: int | None) -> None:
    """Let layers of a model with a recipe do without their weights, in place, before any is generated.

    Args:
        model: after attach().
        plan: its recipe.
        chosen: names of weights, and with them go those that are tied to them.
        left: bytes of memory for the part of a weight that is there at a time; None is as much as is quick.

    Raises:
        UnsupportedError: naming a layer that has no such form. LimitError: not one row fits.
    """
    holders: dict[int, list[tuple[str, nn.Module]]] = {}
    for prefix, module in model.named_modules():
        weight = module._buffers.get("weight")
        if weight is not None:
            holders.setdefault(id(weight), []).append((f"{prefix}.weight" if prefix else "weight", module))
    work = []
    for name in chosen:
        module, leaf = locate(model, name)
        source = module.__dict__.get(SOURCES, {}).get(leaf)
        if source is None:
            raise _impossible(name, f"the weights of {plan.rng.id} are in no stream that gives a part alone")
        if leaf != "weight":
            raise _impossible(name, f"{leaf} of a {type(module).__name__} has no form without a backbone")
        for other, holder in holders[id(module._buffers["weight"])]:
            if virtual_class(holder) is None:
                raise _impossible(other, f"a {type(holder).__name__} has no form without a backbone")
            work.append((holder, source))
        _require_room(name, plan.parameters[name], left)
    for holder, source in work:
        make_virtual(holder, source, left or 0)


def _require_room(name: str, entry: object, left: int | None) -> None:
    assert isinstance(entry, SeededRecipe | AdaptedRecipe)
    row = numel(entry.shape[1:]) * dtypes.ITEMSIZE[entry.dtype]
    if left is not None and left < row:
        raise LimitError(
            f"{name}: one row of it takes {row:,} bytes, and max_bytes leaves {max(left, 0):,}",
            hint="Pass a larger max_bytes: it counts what is stored, adapters, and the largest block.",
        )


def _impossible(name: str, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name} cannot be virtual: {why}",
        hint='Keep it in memory: backbone={"...": "virtual"} names the layers that do without, or load the model as usual.',
    )


def settle(model: nn.Module, device: torch.device, dtype: torch.dtype | None) -> None:
    """Let the weights of virtual layers count as on a device, and in a dtype, None for the recorded one."""
    for module in model.modules():
        if isinstance(module, VirtualLayer):
            kind = module.weight_like.dtype if dtype is None else dtype
            module.weight_like = torch.empty(0, dtype=kind, device=device)


def resident_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers of a model, each tensor once."""
    tensors: dict[int, Tensor] = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    return sum(tensor.nbytes for tensor in tensors.values())
