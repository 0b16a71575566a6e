"""Where a pack lies that is named by a path or a reference."""

from os import PathLike
from pathlib import Path

from lottapack.errors import InvalidReferenceError, RegistryError
from lottapack.files.links import require_own_file
from lottapack.format.container import PACK_END
from lottapack.progress import Progress
from lottapack.registry.references import parse


def local(path: str | PathLike[str], progress: Progress | None = None) -> Path:
    """Where the pack lies, once it has been pulled if need be; of a folder that holds one pack, that one.

    ``progress``: in bytes. Raises InvalidReferenceError, RegistryError; FormatError for a folder without a pack.
    """
    found = parse(path)
    if isinstance(found, Path):
        return in_folder(found) if found.is_dir() else found
    from lottapack.registry import pull

    try:
        return pull(str(path), progress=progress).path
    except RegistryError as fault:
        if "://" in str(path):
            raise
        raise type(fault)(fault.message, hint=f"There is no file {path} here either. {fault.hint}") from fault


def in_folder(folder: Path) -> Path:
    """The pack of a folder, as export and save_pretrained write it; or the folder, which open_pack() refuses.

    Raises InvalidReferenceError where the folder holds several, and for a link out of it.
    """
    packs = sorted(folder.glob(f"*{PACK_END}"))
    if len(packs) > 1:
        names = ", ".join(pack.name for pack in packs[:5])
        raise InvalidReferenceError(f"{folder} holds {len(packs)} packs: {names}", hint="Name one of them.")
    if not packs:
        return folder
    require_own_file(packs[0], error=InvalidReferenceError)
    return packs[0]
