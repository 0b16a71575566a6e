"""Where a pack lies that is named by a path or a reference."""

from os import PathLike
from pathlib import Path

from lottapack.registry.references import parse


def local(path: str | PathLike[str]) -> Path:
    """Where the pack lies, once it has been pulled if need be. Raises InvalidReferenceError, RegistryError."""
    found = parse(path)
    if isinstance(found, Path):
        return found
    from lottapack.registry import pull

    return pull(str(path)).path
