"""The model's configuration at the time of packing, which training may have changed since scaffold().

transformers' Trainer sets special tokens by itself, and labels, names and dropouts are often set late. So a pack reads
the configuration again when it is written, and checks that it builds the tensors that were scaffolded.
"""

import json
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from lottapack import arch
from lottapack.arch.as_built import as_built
from lottapack.arch.computed_dtypes import changed_values
from lottapack.arch.noted import noted, recipe_on
from lottapack.arch.skeleton import shapes_of
from lottapack.arch.trust import allowing
from lottapack.errors import (
    ArchitectureError,
    CheckpointError,
    LimitError,
    NotAllowedError,
    UnsupportedError,
)
from lottapack.files.links import require_own_file
from lottapack.folders.changes import refuse_changes
from lottapack.folders.states import LeftOut
from lottapack.format.descriptor import Architecture
from lottapack.format.recipe import AdaptedRecipe, Recipe, SeededRecipe, StoredRecipe

CONFIG = "config.json"
_NAMED_BY_LIBRARY = re.compile(r"(pytorch_)?model(-\d{5}-of-\d{5})?\.(safetensors|bin)(\.index\.json)?")
"""Weight files beside which transformers saves a configuration."""

_Signature = dict[str, tuple[tuple[int, ...], torch.dtype, str]]


def scaffolded_part(plan: Recipe, model: nn.Module, key: str | None = None) -> nn.Module | None:
    """Return the module that carries a recipe; among several, the one called ``key``."""
    carrying = {
        name: module
        for name, module in model.named_modules()
        if noted(module).recipe is not None and recipe_on(module).is_scaffold_of(plan)
    }
    return carrying.get(key or "", next(iter(carrying.values()), None))


def of_recipe(plan: Recipe, tensors: Collection[str], leaving: LeftOut, path: Path | None = None) -> Recipe:
    """Return the recipe with the configuration of the moment when its state_dict was made, and nothing else of then.

    Args:
        plan: as the checkpoint carries it.
        tensors: the names of those that it holds.
        leaving: of what no configuration tells, what may be left out; it takes note of that.
        path: of the checkpoint; a configuration that its library saved beside it goes before that of the recipe.

    Raises CheckpointError for a configuration of another model, or that builds other tensors, naming its keys; and for
    a model that was no longer what its configuration builds, naming module or attribute.
    """
    before, where = plan.architecture, f"this {plan.architecture.class_}'s configuration"
    config, beside = plan.config or before.config, None if path is None else _beside(before, path)
    if beside is not None:
        config, where = beside
    changes = {place: change for place, change in (plan.changed or {}).items() if place not in _told_by(plan, tensors)}
    try:
        after = now(before, config, where, _stored(plan))
    except CheckpointError:
        if beside is not None or not changes:
            raise
        refuse_changes(changes, before.class_, leaving)
        after, changes = before, {}  # all that made the difference is left out
    if after.config != before.config:
        with suppress(LimitError, UnsupportedError), allowing(arch.packages(before)):
            changes = as_built(arch.build(before)).seen_from(as_built(arch.build(after)), changes)
    refuse_changes(changes, after.class_, leaving, _changed_keys(before.config, after.config))
    return msgspec.structs.replace(plan, architecture=after, config=msgspec.UNSET, changed=msgspec.UNSET)


def _told_by(plan: Recipe, tensors: Collection[str]) -> set[str]:
    """The generated weights that a checkpoint holds: a packer compares them, and stores what changed."""
    return {name for name in tensors if isinstance(plan.parameters.get(name), AdaptedRecipe | SeededRecipe)}


def _stored(plan: Recipe) -> Collection[str]:
    """Return the names of stored tensors and ties to them: a model may have resized these, as a vocabulary grows."""
    return [name for name in plan.parameters if isinstance(plan.parameters[plan.resolve(name)], StoredRecipe)]


def of_live(before: Architecture, model: nn.Module, free: Collection[str] = ()) -> Architecture:
    """Return an architecture with the present configuration of a live model of it. Raises CheckpointError.

    ``free``: as in now().
    """
    family = arch.family_called(before.family)
    config = before.config if family.current is None else family.current(model, before)
    return now(before, config, f"this {before.class_}'s configuration", free)


def _beside(before: Architecture, path: Path) -> tuple[dict[str, Any], str] | None:
    """The configuration that lies beside a checkpoint, where its library saves one there, and where that is."""
    family = arch.family_called(before.family)
    beside = (path if path.is_dir() else path.parent) / CONFIG
    of_folder = path.is_dir() or _NAMED_BY_LIBRARY.fullmatch(path.name)
    if family.saved is None or not of_folder or not beside.is_file():
        return None
    require_own_file(beside)
    try:
        said: Any = json.loads(beside.read_text("utf-8"))
    except (OSError, ValueError) as fault:
        raise CheckpointError(f"cannot read {beside} as JSON: {fault}", hint=_LEAVE_OUT) from fault
    try:
        return family.saved(said, before), str(beside)
    except UnsupportedError:
        return None  # without the library nothing can be compared, and the recipe holds what the state_dict saw
    except ArchitectureError as fault:
        raise CheckpointError(f"{beside}: {fault.message}", hint=_LEAVE_OUT) from fault


_LEAVE_OUT = "Put this checkpoint's own configuration there, or move the file with the weights elsewhere and name it."


def now(before: Architecture, config: dict[str, Any], where: str, free: Collection[str] = ()) -> Architecture:
    """Return an architecture with another configuration, which must build the same tensors. Raises CheckpointError.

    ``free``: names of tensors whose shape may differ. The caller compares them with the actual ones.
    """
    if config == before.config:
        return before
    try:
        after = arch.checked(before.family, before.class_, config)
        with allowing(arch.packages(before)):
            due = _signature(arch.build(before), free)
    except (ArchitectureError, NotAllowedError) as fault:
        raise CheckpointError(f"{where} was changed after scaffold(): {fault.message}", hint=_SET_BACK) from fault
    if _builds(after, free) != due:
        keys = _guilty(before, config, due, free)
        listed = ", ".join(f"{key} ({_short(before.config.get(key))} -> {_short(config.get(key))})" for key in keys[:5])
        raise CheckpointError(
            f"{where} was changed after scaffold(), and now builds different tensors: {listed}", hint=_SET_BACK
        )
    return after


_SET_BACK = "Set it back to its value at scaffold(), or scaffold a model that is built with this one."


def _builds(architecture: Architecture, free: Collection[str]) -> _Signature | None:
    """Return what an architecture builds, or None if it cannot be built."""
    try:
        with allowing(arch.packages(architecture)):
            return _signature(arch.build(architecture), free)
    except (ArchitectureError, LimitError):
        return None


def _guilty(before: Architecture, config: dict[str, Any], due: _Signature, free: Collection[str]) -> list[str]:
    """Return the changed keys that alone build something else; all changed keys if it takes several."""
    old = before.config
    changed = _changed_keys(old, config)
    guilty = []
    for key in changed[:50]:
        alone = {name: value for name, value in old.items() if name != key}
        if key in config:
            alone[key] = config[key]
        if _builds(Architecture(family=before.family, class_=before.class_, config=alone), free) != due:
            guilty.append(key)
    return guilty or changed


def _changed_keys(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def _signature(model: nn.Module, free: Collection[str]) -> _Signature:
    """Return shape, dtype and owner of every entry of the state_dict; no shape for free ones."""
    shapes, owners = shapes_of(model), dict[int, str]()
    return {
        name: (() if name in free else shapes[name], tensor.dtype, owners.setdefault(id(tensor), name))
        for name, tensor in model.state_dict(keep_vars=True).items()
    }


def require_computed(model: nn.Module, built: nn.Module, architecture: Architecture) -> None:
    """Raise CheckpointError for a tensor in no checkpoint whose values differ from those that the constructor gives."""
    if name := changed_values(model, built):
        raise CheckpointError(
            f"{name}, which no checkpoint holds, has other values than in a {architecture.class_} built from its "
            "configuration. A pack cannot store this change",
            hint="lottapack.nn.regenerate_(model) gives a scaffolded model the constructor's values. If it was rounded "
            "by a cast to a narrower dtype and back, pack the model in the narrower one: model.to(torch.bfloat16).",
        )


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."
