"""The present recipe: with casts, freezing and other changes since scaffold() or load() (spec: recipe)."""

from collections.abc import Mapping
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from lottapack import arch
from lottapack.arch.as_built import differences
from lottapack.arch.computed_dtypes import changed_dtypes
from lottapack.arch.noted import noted, notes
from lottapack.arch.skeleton import plain_name
from lottapack.errors import ArchitectureError
from lottapack.format import dtypes
from lottapack.format.recipe import AdaptedRecipe, Change, ParameterRecipe, Recipe, SeededRecipe, StoredRecipe
from lottapack.nn.changes import changed_backbones, changes_of_layers
from lottapack.nn.generated import generated_of
from lottapack.nn.generated_layer import held_as


def of_the_moment(module: nn.Module, plan: Recipe, saved: Mapping[str, Tensor]) -> Recipe:
    """Return the recipe of a model in its present state.

    Args:
        module: the model that carries it.
        plan: the recipe that it carries.
        saved: its state_dict.
    """
    generated = _generated_dtypes(module, plan)
    changed = {name: dtype for name, dtype in generated.items() if dtype != plan.parameters[name].dtype}  # type: ignore[union-attr]
    kinds = set(generated.values())
    held = {dtypes.dtype_name(tensor.dtype) for tensor in saved.values() if tensor.is_floating_point()}
    return msgspec.structs.replace(
        plan,
        parameters=_as_they_train(module, plan),
        dtypes=changed | changed_dtypes(module) or msgspec.UNSET,
        mixed=True if (kinds and held and held != kinds) or len(kinds) > 1 else msgspec.UNSET,
        config=_config(module, plan),
        changed=differences(module)
        | changes_of_layers(module, plan)
        | changed_backbones(module, plan, saved)
        | _not_plain(module, plan)
        or msgspec.UNSET,
    )


def note_config(module: nn.Module, plan: Recipe) -> None:
    """Note the configuration that a model has: some libraries' configurations grow whenever a model is built."""
    notes(module).config = _current(module, plan)


def as_configured(module: nn.Module, plan: Recipe) -> Recipe:
    """Return the recipe of a model with the configuration and the dtypes that the model has now."""
    return msgspec.structs.replace(
        plan, config=_config(module, plan), dtypes=_generated_dtypes(module, plan) or msgspec.UNSET
    )


def _config(module: nn.Module, plan: Recipe) -> dict[str, Any] | msgspec.UnsetType:
    """The configuration that a model has now, where it is another, and as far as it can be described."""
    config = _current(module, plan)
    return msgspec.UNSET if config in (plan.architecture.config, noted(module).config, None) else config


def _current(module: nn.Module, plan: Recipe) -> Any:
    family = arch.family_called(plan.architecture.family)
    try:
        return None if family.current is None else family.current(module, plan.architecture)
    except ArchitectureError:  # of a class or an attribute that is another, which is told
        return None if family.as_far_as_plain is None else family.as_far_as_plain(module)[0]


def _not_plain(module: nn.Module, plan: Recipe) -> dict[str, Change]:
    """Return what of a model's configuration is not plain data, by place."""
    family = arch.family_called(plan.architecture.family)
    try:
        if family.current is not None:
            family.current(module, plan.architecture)
    except ArchitectureError:
        refused = {} if family.as_far_as_plain is None else family.as_far_as_plain(module)[1]
        return {place: Change(now=text, due="is plain data") for place, text in refused.items()}
    return {}


def _as_they_train(module: nn.Module, plan: Recipe) -> dict[str, ParameterRecipe]:
    """Return the entries, with ``trained`` set to the parameters' present ``requires_grad``.

    If no parameter requires a gradient, the whole model was frozen, for example to evaluate it, and the recipe is kept.
    The recipe is also kept if generated weights require one, in a model of init_backbone_(), which does not freeze.
    """
    trains = {plain_name(name): one.requires_grad for name, one in module.named_parameters(remove_duplicate=False)}
    generated = (name for name, entry in plan.parameters.items() if isinstance(entry, SeededRecipe | AdaptedRecipe))
    if not any(trains.values()) or any(trains.get(name) for name in generated):
        return plan.parameters
    return {
        name: msgspec.structs.replace(entry, trained=trains[name])
        if isinstance(entry, StoredRecipe) and trains.get(name, entry.trained) != entry.trained
        else entry
        for name, entry in plan.parameters.items()
    }


def _generated_dtypes(module: nn.Module, plan: Recipe) -> dict[str, str]:
    """Return the dtype of each generated weight, as far as it is known."""
    owners = {plain_name(name): owner for name, owner in module.named_modules(remove_duplicate=False)}
    found = {}
    for name, entry in plan.parameters.items():
        prefix, _, leaf = name.rpartition(".")
        owner = owners.get(prefix)
        if isinstance(entry, SeededRecipe | AdaptedRecipe) and owner is not None:
            dtype = _held_dtype(owner, leaf)
            if dtype is not None:
                found[name] = dtypes.dtype_name(dtype)
    return found


def _held_dtype(owner: nn.Module, leaf: str) -> torch.dtype | None:
    if (generated := generated_of(owner, leaf)) is not None:
        return generated.like.dtype
    held = held_as(owner, leaf)
    weight: Tensor | None = owner._parameters.get(held)
    if weight is None:
        weight = owner._buffers.get(held)
    return None if weight is None else weight.dtype
