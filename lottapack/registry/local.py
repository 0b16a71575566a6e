"""Find the file of a pack that a path or a reference names."""

import json
from os import PathLike
from pathlib import Path

from lottapack.errors import InvalidReferenceError, RegistryError
from lottapack.files.links import require_own_file
from lottapack.files.paths import is_directory
from lottapack.format.container import PACK_END
from lottapack.progress import Progress
from lottapack.registry.references import parse

_LARGEST = 1 << 24
"""Bytes of a config.json that are read."""


def local(path: str | PathLike[str], progress: Progress | None = None) -> Path:
    """Return the path of a pack, pulled if necessary; of a folder with one pack, that pack.

    ``progress``: in bytes. Raises InvalidReferenceError, RegistryError; FormatError for a folder without a pack.
    """
    parsed = parse(path)
    if isinstance(parsed, Path):
        return in_folder(parsed)
    from lottapack.registry import pull

    try:
        return pull(str(path), progress=progress).path
    except RegistryError as fault:
        if "://" in str(path):
            raise
        raise type(fault)(fault.message, hint=f"The file {path} does not exist either. {fault.hint}") from fault


def in_folder(path: Path) -> Path:
    """Return the pack of a folder from export or save_pretrained; any other path as it is.

    open_pack() refuses a folder without a pack. Raises InvalidReferenceError if the folder contains several, for a link
    out of it, and for a folder that stands for another scaffold than the pack's default one, which the pack alone would
    not tell.
    """
    if not is_directory(path):
        return path
    packs = sorted(path.glob(f"*{PACK_END}"))
    if len(packs) > 1:
        names = ", ".join(pack.name for pack in packs[:5])
        raise InvalidReferenceError(f"{path} contains {len(packs)} packs: {names}", hint="Name one of them.")
    if not packs:
        return path
    require_own_file(packs[0], error=InvalidReferenceError)
    scaffold = _scaffold_of(path)
    if scaffold is not None:
        raise InvalidReferenceError(
            f"{path} stands for the scaffold {scaffold!r} of its pack",
            hint=f"Name the pack itself, {packs[0]}, with `scaffold={scaffold}` where you need that one.",
        )
    return packs[0]


def _scaffold_of(folder: Path) -> str | None:
    """Return the scaffold that a folder's ``config.json`` names, or None for the default one."""
    path = folder / "config.json"
    require_own_file(path, error=InvalidReferenceError)
    try:
        with path.open("rb") as file:
            config = json.loads(file.read(_LARGEST))
        scaffold = config["quantization_config"]["scaffold"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    return scaffold if isinstance(scaffold, str) else None
