"""regenerate_(): restore in place what follows from a model's seed and its constructor."""

import torch
from torch import nn

from lottapack import arch, rng
from lottapack.arch.drawn import require_versions
from lottapack.arch.noted import noted, recipe_on, require_module
from lottapack.arch.skeleton import computed_buffers
from lottapack.arch.trust import allowing
from lottapack.errors import ArchitectureError, PlacementError
from lottapack.format import dtypes, recipe
from lottapack.format.names import parameter_of
from lottapack.format.recipe import AdaptedRecipe, Recipe, SeededRecipe
from lottapack.nn.attach import recipe_text, tie_all, where
from lottapack.nn.generating import fill_backbone


@torch.no_grad()
def regenerate_(model: nn.Module) -> nn.Module:
    """Generate every backbone weight of the model again, in place, on its device. Returns the model.

    For a model whose buffers were lost (``to_empty``) or changed; it stays on its scaffold. This also restores the
    recipe, the ties, and the buffers that the model's constructor computes (such as rotary frequencies). It does not
    restore what a state_dict holds: after ``to_empty``, call ``load_state_dict()`` too.

    Args:
        model: from scaffold() or load(), on any device.

    Returns:
        The model.

    Raises:
        ArchitectureError: a buffer is in no checkpoint and the constructor does not compute it; the message names it.
        PlacementError: a weight or such a buffer is distributed.
        LottapackError: and every error that load() raises.

    Source:
        spec/v1/recipe.md.

    Examples:
        >>> model = lottapack.load("model.lotta.safetensors")
        >>> state = model.state_dict()
        >>> model = model.to_empty(device="cpu")
        >>> _ = lottapack.nn.regenerate_(model).load_state_dict(state)
    """
    require_module(model)
    for module in [module for module in model.modules() if noted(module).recipe is not None]:
        _restore_computed(module, recipe_on(module))
    return generate_(model)


@torch.no_grad()
def generate_(model: nn.Module) -> nn.Module:
    """Do what regenerate_() does, except for what the model's constructor computes."""
    for module in model.modules():
        recipe_of_module = noted(module).recipe
        if recipe_of_module is not None:
            module._buffers[recipe.BUFFER] = recipe_text(recipe_of_module).to(module.get_buffer(recipe.BUFFER).device)
            tie_all(module, recipe_of_module)
            if recipe_of_module.rng.id == rng.TORCH_CPU:
                _draw_again(module, recipe_of_module)
    fill_backbone(model)
    return model


def _restore_computed(module: nn.Module, plan: Recipe) -> None:
    """Write the tensors in no checkpoint that the constructor computes, from a newly built model."""
    ours = {
        name: buffer
        for name, buffer in computed_buffers(module)
        if name != recipe.BUFFER and parameter_of(name, plan.parameters) not in plan.parameters
    }
    if not ours:
        return
    with allowing(arch.packages(plan.architecture)):  # this code already runs
        built = dict(computed_buffers(arch.build(plan.architecture)))
    for name, buffer in ours.items():
        new = built.get(name)
        if new is None or new.is_meta or new.shape != buffer.shape:
            raise ArchitectureError(
                f"{name} is in no checkpoint, and the constructor of {plan.architecture.class_} does not compute it",
                hint="Set its values, make it persistent, or load the model from a pack.",
            )
        if hasattr(buffer, "device_mesh"):
            raise PlacementError(
                f"{name} is a distributed tensor", hint="Fill its part with lottapack.distributed.fill_(model, PACK)."
            )
        if not buffer.is_meta:
            buffer.copy_(new)


def _draw_again(module: nn.Module, plan: Recipe) -> None:
    require_versions(plan.rng.torch, plan.rng.capability)
    state = arch.draw(plan.architecture, plan.seed).state_dict()
    for name, entry in plan.parameters.items():
        if isinstance(entry, SeededRecipe | AdaptedRecipe):
            owner, leaf = where(module, name)
            owner._buffers[leaf].copy_(state[name].to(dtypes.torch_dtype(entry.dtype)))  # type: ignore[union-attr]
