"""Writing files so that a path holds the old file or the whole new one, never anything else."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lottapack.errors import OutputError


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file in ``path``'s folder; on success flush it to disk and rename it to ``path``.

    On any error or interruption the new file is removed and whatever was at ``path`` stays. Raises OutputError.
    """
    # At most 40 characters of its name: four bytes each, and the whole must stay below 255.
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.tmp")
    try:
        if path.is_dir():
            raise OutputError(f"{path} is a folder", hint="Name a file inside it.")
        if path.exists() and not path.is_file():
            raise OutputError(f"{path} is no regular file, so it is not replaced", hint="Name another file.")
        # "x" creates with the permissions that the umask gives, and fails on anything that is there, links too.
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as fault:
        raise OutputError(
            f"cannot write {path}: {fault.strerror or fault}",
            hint="Check that the folder exists, is writable and has space. Nothing was changed.",
        ) from fault
    finally:
        with suppress(OSError):
            temporary.unlink()


def sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
