"""Checkpoints without a recipe: find their architecture, and match tensors with its parameters."""

import json
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor, nn

from lottapack import arch
from lottapack.arch.computed_dtypes import changed_dtypes
from lottapack.errors import ArchitectureError, CheckpointError, FormatError
from lottapack.files.links import require_own_file
from lottapack.files.paths import path_of
from lottapack.folders.checkpoint import require_none_beside, require_plain
from lottapack.folders.configuration import require_computed
from lottapack.folders.reading import read_checkpoint
from lottapack.folders.states import LeftOut, beside, choose, require_tensors
from lottapack.format import canonical
from lottapack.format.descriptor import Architecture
from lottapack.format.recipe import Recipe
from lottapack.format.rules import architecture_problems
from lottapack.nn.select import Entry, entries_of

_SAVED_BY_OTHERS = ("quantization_config", "auto_map", "trust_remote_code")


class PlainModel:
    """The empty module of an architecture, and the entries of its state_dict by name."""

    def __init__(self, architecture: Architecture) -> None:
        self.module = arch.build(architecture)
        self.family = arch.family_of(self.module)
        # Use what the module says: a config.json may omit what its library's defaults imply.
        self.architecture = arch.describe(self.module)
        entries = entries_of(self.module)
        self.entries: dict[str, Entry] = {entry.name: entry for entry in entries}

    def tensors(
        self, content: Mapping[str, Any], key: str | None = None, leaving: LeftOut | None = None
    ) -> dict[str, Tensor]:
        """Return the checkpoint's tensors by their names in the model, wherever a trainer put the state_dict.

        Tied entries may be missing. Raises CheckpointError for tensors that are missing, left over, beside the model or
        of other shapes. ``key`` and ``leaving``: as in checkpoint.split().
        """
        leaving = LeftOut() if leaving is None else leaving
        owned = [entry.name for entry in self.entries.values() if not entry.tied] or [""]
        chosen = choose(content, lambda state: self._prefixes(state, owned), key)
        if chosen is None:
            require_tensors(content, owned[0])
            raise CheckpointError(
                f"the checkpoint does not contain tensors of a {self.architecture.class_}, such as {owned[0]}",
                hint="Pass the architecture that it was trained with as `architecture`.",
            )
        state, others = chosen
        leaving.names += [other.address for other in others]
        require_none_beside(leaving.rest(beside(content, state, others)))
        found = self.family.as_in_model(self.module, state.own(), self.entries)
        for name, tensor in found.items():
            require_plain(name, tensor)
        tied = [(entry.name, entry.tied) for entry in self.entries.values() if entry.tied]
        lacking = [n for n in owned if n not in found and not any(c in found for c, owner in tied if owner == n)]
        left = leaving.rest(sorted(found.keys() - self.entries.keys()))
        leaving.require_used()
        if lacking or left:
            what = f"lacks {len(lacking)} tensors" if lacking else f"has {len(left)} tensors left over"
            names = ", ".join((lacking or left)[:5])
            raise CheckpointError(
                f"the checkpoint {what} for a {self.architecture.class_}: {names}",
                hint="Pass the architecture that it was trained with as `architecture`. Pack adapters as a PEFT "
                "folder.",
            )
        found = {name: tensor for name, tensor in found.items() if name in self.entries}
        self._tie_as(found)
        for name, tensor in found.items():
            due = tuple(self.entries[name].tensor.shape)
            if tuple(tensor.shape) != due:
                raise CheckpointError(
                    f"{name} has shape {tuple(tensor.shape)}, but {due} in a {self.architecture.class_}",
                    hint="Pass the architecture that it was trained with as `architecture`.",
                )
        return found

    def _tie_as(self, tensors: Mapping[str, Tensor]) -> None:
        """Note ties that the model got after its constructor: parameters of a checkpoint that are one in memory."""
        first: dict[tuple[object, ...], str] = {}
        for name, entry in self.entries.items():
            tensor = tensors.get(name)
            if tensor is None or entry.tied or entry.group == "buffer" or tensor.is_meta or not tensor.numel():
                continue
            layout = tensor.storage_offset(), tensor.shape, tensor.stride()
            owner = first.setdefault((tensor.untyped_storage()._cdata, tensor.dtype, *layout), name)
            if owner != name:
                self.entries[name] = replace(entry, tied=owner)

    def as_live(self, plan: Recipe, checkpoint: object) -> Recipe:
        """Return a recipe with the dtypes of what a live model computes, which a cast may have changed.

        Raises CheckpointError if the model computes other values than its architecture does.
        """
        if not isinstance(checkpoint, nn.Module):
            return plan
        require_computed(checkpoint, self.module, self.architecture)
        return msgspec.structs.replace(plan, dtypes=changed_dtypes(checkpoint, self.module) or msgspec.UNSET)

    def _prefixes(self, state: Mapping[str, Any], owned: list[str]) -> list[str]:
        """Return what precedes the model's names in a state_dict, if that belongs to this model."""
        now = self.family.names_in_model(self.module, state)
        names = [now.get(name, name) for name in state]
        ends = (owned[0], owned[-1])
        prefixes = {name.removesuffix(end) for name in names for end in ends if name.endswith(end)} | {""}
        for prefix in sorted(prefixes, key=len):
            mine = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
            if 2 * len(mine & set(owned)) >= max(len(owned), 1):
                return [prefix]
        return []


Checkpoint = nn.Module | Mapping[str, Any] | str | PathLike[str]
Named = Architecture | nn.Module | str | PathLike[str] | None


def model_of(checkpoint: Checkpoint, architecture: Named) -> PlainModel:
    """Return the empty model of a checkpoint whose architecture the caller or its folder names. ArchitectureError."""
    folder = None if isinstance(checkpoint, nn.Module | Mapping) else path_of(checkpoint, "checkpoint")
    named: Architecture | nn.Module | Path | None
    if architecture is None or isinstance(architecture, Architecture | nn.Module):
        named = architecture
    else:
        named = path_of(architecture, "architecture")
    if named is None and isinstance(checkpoint, nn.Module):
        named = checkpoint
    return PlainModel(architecture_of(named, folder))


def content_of(checkpoint: Checkpoint, leaving: LeftOut) -> Mapping[str, Any]:
    """Return what a checkpoint holds, wherever it is. ``leaving``: as in read_checkpoint(). Raises CheckpointError."""
    if isinstance(checkpoint, nn.Module):
        return checkpoint.state_dict()
    return checkpoint if isinstance(checkpoint, Mapping) else read_checkpoint(Path(checkpoint), leaving)


def architecture_of(given: "Architecture | nn.Module | Path | None", checkpoint: Path | None) -> Architecture:
    """Return the architecture that a caller names.

    Args:
        given: a module; or a file: an architecture as in a descriptor, or the ``config.json`` of a transformers model;
            or a folder with that; None for the one in the checkpoint's folder.
        checkpoint: the checkpoint's folder.

    Raises:
        ArchitectureError: it is missing, or breaks the format.
    """
    if isinstance(given, Architecture):
        return given
    if isinstance(given, nn.Module):
        return arch.describe(given)
    if given is None:
        if checkpoint is None or not (checkpoint / "config.json").exists():
            raise ArchitectureError(
                "the checkpoint's architecture is unknown",
                hint="Pass `architecture`: a folder with a transformers config.json, or a JSON file.",
            )
        given = checkpoint
    path = given
    if given.is_dir():
        path = given / "config.json"
        require_own_file(path)
    try:
        configuration: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as fault:
        reason = (fault.strerror if isinstance(fault, OSError) else "") or fault
        raise ArchitectureError(
            f"cannot read {path} as an architecture: {reason}",
            hint="Pass a folder with a transformers config.json, or a JSON file as in spec/v1/architectures.md.",
        ) from fault
    return _parse(path, configuration)


def _parse(path: Path, configuration: Any) -> Architecture:
    if (
        isinstance(configuration, dict)
        and {"family", "class", "config"} == configuration.keys()
        and isinstance(configuration["config"], dict)
    ):
        architecture = Architecture(
            family=str(configuration["family"]), class_=str(configuration["class"]), config=configuration["config"]
        )
    elif (
        isinstance(configuration, dict)
        and isinstance(configuration.get("architectures"), list)
        and configuration["architectures"]
    ):
        others = [key for key in _SAVED_BY_OTHERS if key in configuration]
        if others:
            raise ArchitectureError(
                f"{path} sets {others[0]}, which a pack cannot store", hint="Pack the model before quantising it."
            )
        from lottapack.arch.transformers_models import plain_config

        architecture = Architecture(
            family="transformers", class_=str(configuration["architectures"][0]), config=plain_config(configuration)
        )
    else:
        raise ArchitectureError(
            f"{path} is neither a transformers config.json with its architectures nor an architecture of the format",
            hint='Write {"family": ..., "class": ..., "config": ...} as in spec/v1/architectures.md.',
        )
    try:
        text = canonical.view(canonical.dumps(architecture.config))
    except (ValueError, FormatError) as fault:
        raise ArchitectureError(f"cannot write {path} as canonical JSON: {fault}", hint="Use plain data.") from fault
    problems = architecture_problems(architecture.family, architecture.class_, text)
    if problems:
        raise ArchitectureError(f"{path}: {problems[0]}", hint="Change the configuration.")
    return architecture
