"""The model's configuration at the time of packing, which training may have changed since scaffold().

transformers' Trainer sets special tokens by itself, and labels, names and dropouts are often set late. So a pack reads
the configuration again when it is written, and checks that it builds the tensors that were scaffolded.
"""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as _Norm  # SyncBatchNorm stands for each of them in training

from lottapack import arch
from lottapack.arch.computed_dtypes import changed_values
from lottapack.arch.skeleton import WRAPPERS, shapes_of, unwrapped
from lottapack.arch.trust import allowing
from lottapack.errors import (
    ArchitectureError,
    CheckpointError,
    LimitError,
    LottapackError,
    NotAllowedError,
    UnsupportedError,
)
from lottapack.files.links import require_own_file
from lottapack.format.descriptor import Architecture
from lottapack.format.recipe import Recipe, StoredRecipe
from lottapack.nn.attach import PLAN

CONFIG = "config.json"
_NAMED_BY_LIBRARY = re.compile(r"(pytorch_)?model(-\d{5}-of-\d{5})?\.(safetensors|bin)(\.index\.json)?")
"""Weight files beside which transformers saves a configuration."""

_OF_THE_MOMENT = frozenset(
    {
        "training",
        "gradient_checkpointing",
        "grad_checkpointing",
        "is_parallelizable",
        "model_parallel",
        "max_seq_len_cached",
        "attention_scaling",
    }
)
"""Attributes by which libraries note how a model runs, not what it is."""

_Signature = dict[str, tuple[tuple[int, ...], torch.dtype, str]]


def scaffolded_part(plan: Recipe, model: nn.Module, key: str | None = None) -> nn.Module | None:
    """Return the module that carries a recipe; among several, the one called ``key``."""
    carrying = {
        name: module
        for name, module in model.named_modules()
        if PLAN in module.__dict__ and module.__dict__[PLAN].is_scaffold_of(plan)
    }
    return carrying.get(key or "", next(iter(carrying.values()), None))


def of_module(plan: Recipe, part: nn.Module | None) -> Recipe:
    """Return the recipe with the present configuration of the live module that carries it.

    Raises CheckpointError for a configuration that builds different tensors, naming its keys; and for a module that
    differs from what its configuration builds, naming the attribute.
    """
    if part is None:
        return plan
    plan = msgspec.structs.replace(plan, architecture=of_live(plan.architecture, part, _stored(plan)))
    _require_as_built(part, plan.architecture)
    return plan


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


def of_checkpoint(plan: Recipe, path: Path) -> Recipe:
    """Return the recipe with the configuration beside a checkpoint, if the library saves one there.

    Raises CheckpointError for a configuration of another model, or one that builds different tensors.
    """
    family = arch.family_called(plan.architecture.family)
    beside = (path if path.is_dir() else path.parent) / CONFIG
    of_folder = path.is_dir() or _NAMED_BY_LIBRARY.fullmatch(path.name)
    if family.saved is None or not of_folder or not beside.is_file():
        return plan
    require_own_file(beside)
    try:
        said: Any = json.loads(beside.read_text("utf-8"))
    except (OSError, ValueError) as fault:
        raise CheckpointError(f"cannot read {beside} as JSON: {fault}", hint=_LEAVE_OUT) from fault
    try:
        config = family.saved(said, plan.architecture)
    except UnsupportedError:
        return plan  # without the library nothing can be compared; the recipe has what scaffold() saw
    except ArchitectureError as fault:
        raise CheckpointError(f"{beside}: {fault.message}", hint=_LEAVE_OUT) from fault
    return _with(plan, config, str(beside))


_LEAVE_OUT = "Put this checkpoint's own configuration there, or move the file with the weights elsewhere and name it."


def _with(plan: Recipe, config: dict[str, Any], where: str) -> Recipe:
    """Return the recipe with another configuration, which must build what was scaffolded."""
    return msgspec.structs.replace(plan, architecture=now(plan.architecture, config, where, _stored(plan)))


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
    changed = sorted(key for key in old.keys() | config.keys() if old.get(key) != config.get(key))
    guilty = []
    for key in changed[:50]:
        alone = {name: value for name, value in old.items() if name != key}
        if key in config:
            alone[key] = config[key]
        if _builds(Architecture(family=before.family, class_=before.class_, config=alone), free) != due:
            guilty.append(key)
    return guilty or changed


def _signature(model: nn.Module, free: Collection[str]) -> _Signature:
    """Return shape, dtype and owner of every entry of the state_dict; no shape for free ones."""
    shapes, owners = shapes_of(model), dict[int, str]()
    return {
        name: (() if name in free else shapes[name], tensor.dtype, owners.setdefault(id(tensor), name))
        for name, tensor in model.state_dict(keep_vars=True).items()
    }


def _require_as_built(model: nn.Module, architecture: Architecture) -> None:
    """Raise CheckpointError if a module differs from what the architecture builds in anything except tensors.

    Compares classes and plain attributes, as far as both have them.
    """
    try:
        with allowing(arch.packages(architecture)):
            built = arch.build(architecture)
    except (LimitError, UnsupportedError):
        return
    live = {
        ".".join(step for step in name.split(".") if step not in WRAPPERS): unwrapped(module)
        for name, module in model.named_modules(remove_duplicate=False)
    }
    for name, due in built.named_modules(remove_duplicate=False):
        module = live.get(name)
        if module is None:
            continue
        where = name or "the model"
        both_norms = isinstance(module, _Norm) and isinstance(due, _Norm)
        if not isinstance(module, _stock(type(due))) and not both_norms:
            raise _changed(where, f"is a {type(module).__name__}", f"a {type(due).__name__}", architecture)
        for key, value in vars(due).items():
            if key.startswith("_") or key in _OF_THE_MOMENT or not _is_plain(value):
                continue
            if key == "padding_idx" and (isinstance(due, nn.Embedding) or hasattr(due, "config_class")):
                continue  # only says which row has no gradient, and a trainer that sets pad_token_id does not change it
            if key == "vocab_size" and hasattr(due, "config_class"):
                continue  # resize_token_embeddings() only sets it on the outermost model
            now = vars(module).get(key, value)
            if _is_plain(now) and _as_json(now) != _as_json(value):
                raise _changed(f"{where}.{key}", f"is {now!r}", repr(value), architecture)
    require_computed(model, built, architecture)


def require_computed(model: nn.Module, built: nn.Module, architecture: Architecture) -> None:
    """Raise CheckpointError for a tensor in no checkpoint whose values differ from those that the constructor gives."""
    if name := changed_values(model, built):
        raise CheckpointError(
            f"{name}, which no checkpoint holds, has other values than in a {architecture.class_} that is built from "
            "its configuration, and a pack cannot store that change",
            hint="lottapack.nn.regenerate_(model) gives a scaffolded model the constructor's values. If it was rounded "
            "by a cast to a narrower dtype and back, pack the model in the narrower one: model.to(torch.bfloat16).",
        )


def _changed(where: str, now: str, due: str, architecture: Architecture) -> LottapackError:
    return CheckpointError(
        f"{where} {now}, but {due} in a {architecture.class_} that is built from its configuration, and a pack cannot "
        "store that change",
        hint="Set it back, or build the model with it. To leave the change out, pack model.state_dict().",
    )


def _stock(kind: type) -> type:
    """Return a class without torch's parametrizations, which create a class for each module."""
    return _stock(kind.__bases__[0]) if kind.__name__.startswith("Parametrized") else kind


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def _as_json(value: object) -> object:
    """Return the value with lists for tuples, because a configuration read from JSON has lists."""
    return [_as_json(item) for item in value] if isinstance(value, tuple | list) else value


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."
