"""The backbone in a checkpoint: a function of the recipe, so a run may take up another's whatever both keep of it."""

from typing import Any

import torch
from torch import Tensor, nn

from lottapack.errors import CheckpointError
from lottapack.format.recipe import AdaptedRecipe, Recipe, SeededRecipe
from lottapack.nn.generated_layer import held_as
from lottapack.nn.virtual import VirtualLayer


def reconcile_backbone(module: nn.Module, plan: Recipe, state: dict[str, Any], prefix: str) -> None:
    """Let a checkpoint of the same recipe hold the backbone that the model expects: its own, or none.

    The model stays on its scaffold, whichever the checkpoint was saved on. Raises CheckpointError for a weight that is
    not what the recipe says, where the model would drop it.
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
        if expected and held is not None and (plan.rng.scaffolds or key not in state) and not held.is_meta:
            state[key] = held
        elif not expected and key in state:
            given = state.pop(key)
            if not plan.rng.scaffolds and not _same(given, owner, held):
                raise CheckpointError(
                    f"{name} in the checkpoint is not what the recipe's seed gives",
                    hint="Something trained the backbone. Pack the checkpoint (what changed is stored), and load that.",
                )


def _held(owner: nn.Module, leaf: str) -> tuple[Tensor | None, bool]:
    """What lies there, and whether it is in the model's own state_dict."""
    parameter = owner._parameters.get(leaf)
    if parameter is not None:
        return parameter, True
    buffer = owner._buffers.get(leaf)
    return buffer, buffer is not None and leaf not in owner._non_persistent_buffers_set


@torch.no_grad()
def _same(given: Any, owner: nn.Module, held: Tensor | None) -> bool:
    """Whether a weight is the model's, as far as this process can tell."""
    if held is None and isinstance(owner, VirtualLayer):
        held = owner.backbone
    if not isinstance(given, Tensor) or held is None or held.is_meta or given.is_meta:
        return True
    if hasattr(given, "device_mesh") or hasattr(held, "device_mesh"):
        return True
    return given.shape == held.shape and torch.equal(given, held.to(given.device, given.dtype))
