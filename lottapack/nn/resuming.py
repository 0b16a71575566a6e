"""The backbone in a checkpoint follows from the recipe, so runs can resume each other, whether or not they save it."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lottapack import rng
from lottapack.arch.noted import noted
from lottapack.arch.said import has_values
from lottapack.errors import CheckpointError
from lottapack.format.recipe import AdaptedRecipe, Recipe, SeededRecipe
from lottapack.nn.changes import is_drawn_from
from lottapack.nn.generated import generated_of
from lottapack.nn.generated_layer import held_as


def reconcile_backbone(module: nn.Module, plan: Recipe, state: dict[str, Any], prefix: str) -> None:
    """Give a checkpoint of the same recipe the backbone entries that the model expects, or remove them.

    The model stays on its scaffold, whichever the checkpoint was saved on. Raises CheckpointError for a weight that
    differs from the recipe, if the model would drop it.
    """
    for name in plan.parameters:
        if not isinstance(plan.parameters[plan.resolve(name)], SeededRecipe | AdaptedRecipe):
            continue
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        held_name = held_as(owner, leaf)
        key = f"{prefix}{name.removesuffix(leaf)}{held_name}"
        if prefix + name in state:
            state.setdefault(key, state[prefix + name])
            if key != prefix + name:
                del state[prefix + name]
        held, expected = _held(owner, held_name)
        moves = bool(plan.rng.scaffolds) and leaf in noted(owner).sources  # a layer that was replaced stays where it is
        if moves and key in state and not _is_of_a_scaffold(state[key], noted(owner).sources[leaf], plan, held):
            raise _differs(name)
        if expected and held is not None and (moves or key not in state) and not held.is_meta:
            state[key] = held
        elif not expected and key in state:
            given = state.pop(key)
            if not plan.rng.scaffolds and not _same(given, owner, leaf, held):
                raise _differs(name)


def _differs(name: str) -> CheckpointError:
    return CheckpointError(
        f"{name} in the checkpoint differs from what the recipe's seed generates",
        hint="Something trained the backbone. Pack the checkpoint, which stores the change, and load that.",
    )


def _is_of_a_scaffold(given: Any, source: rng.Source, plan: Recipe, held: Tensor | None) -> bool:
    """Return whether a weight of a checkpoint is that of one of the recipe's scaffolds, as far as a sample shows."""
    if not isinstance(given, Tensor) or not has_values(given) or not given.numel():
        return True
    if held is not None and given.shape != held.shape:
        return False
    return any(is_drawn_from(given, replace(source, seed=seed)) for seed in plan.seeds.values())


def _held(owner: nn.Module, leaf: str) -> tuple[Tensor | None, bool]:
    """Return the tensor there, and whether it is in the model's own state_dict."""
    parameter = owner._parameters.get(leaf)
    if parameter is not None:
        return parameter, True
    buffer = owner._buffers.get(leaf)
    return buffer, buffer is not None and leaf not in owner._non_persistent_buffers_set


@torch.no_grad()
def _same(given: Any, owner: nn.Module, leaf: str, held: Tensor | None) -> bool:
    """Return whether a weight equals the model's, as far as this process can tell."""
    if held is None and (generated := generated_of(owner, leaf)) is not None:
        held = generated.weight()
    if not isinstance(given, Tensor) or held is None or held.is_meta or given.is_meta:
        return True
    if hasattr(given, "device_mesh") or hasattr(held, "device_mesh"):
        return True
    return given.shape == held.shape and torch.equal(given, held.to(given.device, given.dtype))
