"""The base of a model that adapters are trained on: a small pack that the model carries with it.

An adapter's folder does not hold the weights that it was trained on. Where these were drawn by lottapack, they fit into
a pack of some kilobytes: the model remembers it, and what saves adapters puts it beside them.
"""

import io
from pathlib import Path

from torch import nn

from lottapack.errors import CheckpointError
from lottapack.exporting.staging import Opener, staged_folder
from lottapack.format.container import PACK_END
from lottapack.format.descriptor import DEFAULT_SCAFFOLD, Adapted
from lottapack.format.packfile import PackFile, open_pack
from lottapack.links import require_own_file
from lottapack.packing.folders import PACK_NAME, README, json_bytes, pack_config

FOLDER = "base"
"""The folder beside an adapter's files that holds the pack of its base."""

_BASE = "_lottapack_base"


def remember(model: nn.Module, pack: bytes) -> None:
    """Let a plain model carry the pack of its weights."""
    model.__dict__[_BASE] = pack


def remember_pack(model: nn.Module, pack: PackFile) -> None:
    """As remember(), from an open pack.

    Nothing where the model's weights have adapters merged into them, or are not of the pack's default scaffold.
    """
    if pack.scaffold == DEFAULT_SCAFFOLD and not any(
        isinstance(entry, Adapted) for entry in pack.descriptor.parameters.values()
    ):
        data = io.BytesIO()
        pack.copy_to(data)
        remember(model, data.getvalue())


def recall(model: nn.Module) -> bytes | None:
    """The pack that a model carries, or None."""
    found: bytes | None = model.__dict__.get(_BASE)
    return found


def write_base(data: bytes, folder: Path) -> Path:
    """Write the pack of a base into the folder ``base`` of an adapter's folder. Returns the pack's path."""
    with staged_folder(folder / FOLDER, entries=("config.json",)) as opened:
        write_base_files(data, opened)
    return folder / FOLDER / PACK_NAME


def write_base_files(data: bytes, opened: Opener, within: str = "") -> None:
    """Write the files of a base, whose names begin with ``within``.

    For a transformers model a ``config.json`` comes with the pack, so that ``from_pretrained`` opens that folder.
    """
    with opened(within + PACK_NAME) as file:
        file.write(data)
        file.flush()
        with open_pack(Path(file.name)) as pack:
            descriptor = pack.descriptor
    if descriptor.architecture.family == "transformers":
        with opened(f"{within}README.md") as file:
            file.write(README)
        with opened(f"{within}config.json") as file:
            file.write(json_bytes(pack_config(descriptor, PACK_NAME)))


def holds_pack(folder: Path) -> bool:
    """Whether a folder holds packs."""
    return any(folder.glob(f"*{PACK_END}"))


def open_base(path: Path, within: Path | None = None) -> PackFile:
    """Open the pack of a base: a file, or a folder that holds one. Raises CheckpointError, FormatError.

    ``within``: the folder that a person named, in which ``path`` was found.
    """
    if not path.is_dir():
        return open_pack(path)
    found = sorted(path.glob(f"*{PACK_END}"))
    if len(found) != 1:
        raise CheckpointError(
            f"{path} holds {len(found) or 'no'} packs, and the base of an adapter is one pack",
            hint="Name the pack of the base, which lottapack.init_backbone_() drew. A pack carries no adapter on "
            "pretrained weights, as it generates its backbone from a seed: share such an adapter as PEFT saved it.",
        )
    require_own_file(found[0], within or path)
    return open_pack(found[0])
