"""The base model of an adapter: a small pack that the model carries with it.

An adapter's folder does not contain the weights below the adapter. If lottapack drew them, a pack of a few kilobytes
describes them: the model carries it, and whatever saves adapters writes it beside them.
"""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec

from lottapack.arch.noted import noted, notes
from lottapack.errors import BackboneChangedWarning, CheckpointError
from lottapack.files.links import require_own_file
from lottapack.files.staging import Opener, staged_folder
from lottapack.folders import companions
from lottapack.folders.model_folders import PACK_NAME, README, json_bytes, pack_config
from lottapack.format import container
from lottapack.format.container import PACK_END
from lottapack.format.descriptor import DEFAULT_SCAFFOLD, Adapted, Descriptor, Seeded
from lottapack.format.expected import expected_file, expected_tensors
from lottapack.format.files import GENERATION, content, files_of
from lottapack.format.packfile import PackFile, open_pack

if TYPE_CHECKING:
    from torch import nn

INSIDE_PEFT = ".base_layer"
"""What PEFT puts into the name of a layer that it wraps."""

FOLDER = "base"
"""The folder beside an adapter's files that contains the pack of its base."""


def remember(model: "nn.Module", pack: bytes) -> None:
    """Let a plain model carry the pack of its weights."""
    notes(model).base = pack


def remember_pack(model: "nn.Module", pack: PackFile) -> None:
    """Let a model carry the plain part of an open pack.

    Does nothing if adapters were merged into the weights, or if they are not on the pack's default scaffold.
    """
    if pack.scaffold == DEFAULT_SCAFFOLD and not any(
        isinstance(entry, Adapted) for entry in pack.descriptor.parameters.values()
    ):
        data = io.BytesIO()
        pack.copy_to(data)
        remember(model, data.getvalue())


def of_the_moment(data: bytes, model: "nn.Module") -> bytes:
    """Return the pack of a model's base with the present configuration, generation_config and computed dtypes.

    Raises CheckpointError for a configuration that builds different tensors. Warns of weights that were cast.
    """
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / PACK_NAME
        path.write_bytes(data)
        with open_pack(path) as pack:
            descriptor = pack.descriptor
            _warn_of_casts(descriptor, model)
            from lottapack.arch.computed_dtypes import changed_dtypes
            from lottapack.folders.configuration import of_live

            architecture = of_live(descriptor.architecture, model)
            records, tensors = {}, {}
            for name, held in companions.gathered(True, model, model, architecture).held.items():
                records[name], tensor = companions.encoded(held)
                tensors[expected_file(name, records[name]).name] = tensor
            files = records or msgspec.UNSET
            known = noted(model).computed is not None  # else from_pretrained() made it, as the pack says
            computed = (changed_dtypes(model) or msgspec.UNSET) if known else descriptor.computed
            made: Descriptor = msgspec.structs.replace(
                descriptor, architecture=architecture, files=files, computed=computed
            )
            return data if made.to_bytes() == descriptor.to_bytes() else rewritten(pack, made, tensors)


def _warn_of_casts(descriptor: Descriptor, model: "nn.Module") -> None:
    """Warn of generated weights that the model now has in another dtype than the pack of its base."""
    for long, parameter in model.named_parameters():
        name = long.replace(INSIDE_PEFT, "")
        entry, now = descriptor.parameters.get(name), str(parameter.dtype).removeprefix("torch.")
        if isinstance(entry, Seeded) and parameter.is_floating_point() and entry.dtype != now:
            warnings.warn(
                f"{name} was cast to {now} after lottapack drew it, and the pack of the base generates it in "
                f"{entry.dtype}. To train on a base in {now}, cast the model before init_backbone_()",
                BackboneChangedWarning,
                stacklevel=3,
            )
            return


def rewritten(pack: PackFile, descriptor: Descriptor, more: Mapping[str, bytes] | None = None) -> bytes:
    """Return a pack's file with another descriptor, whose tensors are this pack's or, by name, those in ``more``."""
    extra = more or {}
    wanted = []
    for expected in expected_tensors(descriptor):
        shape = (len(extra[expected.name]),) if expected.name in extra else pack.tensors[expected.name].shape
        wanted.append((expected.name, expected.dtype, shape))
    placed = container.layout(wanted)
    header = container.header_bytes(placed, container.pack_metadata(descriptor.to_bytes()))
    data = (extra[i.name] if i.name in extra else pack.read_bytes(pack.tensors[i.name]) for i in placed)
    return header + b"".join(data)


def recall(model: "nn.Module") -> bytes | None:
    """Return the pack that a model carries, or None."""
    return noted(model).base


def write_base(data: bytes, folder: Path) -> Path:
    """Write the pack of a base into the folder ``base`` of an adapter's folder; return the pack's path."""
    with staged_folder(folder / FOLDER, entries=("config.json",)) as opened:
        write_base_files(data, opened)
    return folder / FOLDER / PACK_NAME


def write_base_files(data: bytes, opened: Opener, within: str = "") -> None:
    """Write the files of a base; their names begin with ``within``.

    For a transformers model this includes a ``config.json``, so that ``from_pretrained`` opens the folder.
    """
    with opened(within + PACK_NAME) as file:
        file.write(data)
        file.flush()
        with open_pack(Path(file.name)) as pack:
            descriptor = pack.descriptor
            held = content(pack, GENERATION) if GENERATION in files_of(descriptor) else None
    if held is not None:
        with opened(within + GENERATION) as file:
            file.write(held)
    if descriptor.architecture.family == "transformers":
        with opened(f"{within}README.md") as file:
            file.write(README)
        with opened(f"{within}config.json") as file:
            file.write(json_bytes(pack_config(descriptor, PACK_NAME)))


def holds_pack(folder: Path) -> bool:
    """Return whether a folder contains packs."""
    try:
        return any(folder.glob(f"*{PACK_END}"))
    except OSError:  # a text of a configuration, such as one that is too long for a path
        return False


def open_base(path: Path, within: Path | None = None) -> PackFile:
    """Open the pack of a base: a file, or a folder with one pack. Raises CheckpointError, FormatError.

    ``within``: the folder that the user named, which contains ``path``.
    """
    if not path.is_dir():
        return open_pack(path)
    packs = sorted(path.glob(f"*{PACK_END}"))
    if len(packs) != 1:
        raise CheckpointError(
            f"{path} contains {len(packs) or 'no'} packs, but the base of an adapter is exactly one",
            hint="Name the pack of the base, which lottapack.init_backbone_() drew. A pack cannot hold an adapter on "
            "pretrained weights, because it generates its backbone from a seed; share such an adapter as PEFT "
            "saved it.",
        )
    require_own_file(packs[0], within or path)
    return open_pack(packs[0])
