"""A scaffolded model without memory: it waits for values, and does not run on memory that nothing was written to."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lottapack.arch.noted import noted, notes, recipe_on
from lottapack.errors import CheckpointError
from lottapack.format.recipe import BUFFER, Recipe, TiedRecipe
from lottapack.nn.attach import generated_weights, refuse_without_values
from lottapack.nn.regenerating import regenerate_


def await_values(model: nn.Module) -> None:
    """Mark a scaffolded model on the meta device, until load_state_dict() or fill_() gives it all values.

    Memory alone is not enough: such a model, and each layer with a generated weight, refuses to run.
    load_state_dict() also generates the weights and what the constructor computes, which no checkpoint holds.
    """
    for module in model.modules():
        if module is model or noted(module).sources:
            notes(module).planned = True
            module.register_forward_pre_hook(refuse_without_values)
    first = model.register_load_state_dict_pre_hook(_generate)  # type: ignore[no-untyped-call]
    hooks: Any = model._load_state_dict_pre_hooks
    hooks.move_to_end(first.id, last=False)  # the others compare with what it generates
    model.register_load_state_dict_pre_hook(_require_shapes)  # type: ignore[no-untyped-call]
    model.register_load_state_dict_post_hook(_note_loaded)  # type: ignore[no-untyped-call]


def note_given(model: nn.Module) -> None:
    """Note that a model has all its values."""
    for module in model.modules():
        if noted(module).planned:
            notes(module).planned = False
            for number, hook in list(module._forward_pre_hooks.items()):
                if hook is refuse_without_values:
                    del module._forward_pre_hooks[number]


def _generate(module: nn.Module, *_: Any) -> None:
    if noted(module).planned and all(_is_ordinary(weight) for weight in generated_weights(module)):
        regenerate_(module)


def _require_shapes(module: nn.Module, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Raise CheckpointError for a tensor of another shape, which torch would leave out and report at the end."""
    if not noted(module).planned:
        return
    for name, tensor in module.state_dict(keep_vars=True).items():
        given = state.get(prefix + name)
        if name != BUFFER and isinstance(given, Tensor) and given.shape != tensor.shape:
            raise CheckpointError(
                f"{name} has shape {tuple(given.shape)} in the checkpoint, but {tuple(tensor.shape)} in the model",
                hint="Build and scaffold the model as it was for training.",
            )


def _note_loaded(module: nn.Module, incompatible: Any) -> None:
    """Note the values of a checkpoint, unless some are missing or could not be generated."""
    if not noted(module).planned:
        return
    plan = recipe_on(module)
    missing = [name for name in incompatible.missing_keys if not _follows(name, plan)]
    saved = {id(parameter) for parameter in module.parameters()}
    weights = generated_weights(module)
    if not missing and all(_is_ordinary(one) or (id(one) in saved and not one.is_meta) for one in weights):
        note_given(module)


def _is_ordinary(weight: Any) -> bool:
    return not weight.is_meta and not hasattr(weight, "device_mesh")


def _follows(name: str, plan: Recipe) -> bool:
    """Return whether a tensor that a checkpoint lacks is the recipe, or tied to one that it may hold."""
    tied = (one for one, entry in plan.parameters.items() if isinstance(entry, TiedRecipe))
    return any(f".{name}".endswith(f".{one}") for one in (BUFFER, *tied))
