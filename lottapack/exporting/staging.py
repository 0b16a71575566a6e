"""Writing several files of one folder so that they appear together, when all of them are whole."""

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lottapack.errors import OutputError
from lottapack.output import sync_folder

Opener = Callable[[str], AbstractContextManager[BinaryIO]]
"""Opens a new file by its name in the folder."""


@contextmanager
def staged_folder(folder: Path, *, first_gone: Iterable[str] = (), then_gone: Iterable[str] = ()) -> Iterator[Opener]:
    """Make a folder's files under temporary names, and rename them in the order of their opening once all are on disk.

    On any error or interruption before that, everything is removed again, the folder too if it was made here, and what
    was there stays. The renames take no time that counts; should the machine stop between them, an entry point that is
    opened last is missing, so that nobody reads a mixture.

    ``first_gone``, ``then_gone``: names to remove before and after the renames, if they are there. Raises OutputError.
    """
    made = _make(folder)
    temporary: dict[str, Path] = {}

    @contextmanager
    def opened(name: str) -> Iterator[BinaryIO]:
        temporary[name] = folder / f".{name[:40]}.{secrets.token_hex(8)}.tmp"
        with temporary[name].open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

    try:
        yield opened
        for name in temporary:
            if (folder / name).is_dir():
                raise OutputError(f"{folder / name} is a folder", hint="Choose another folder to write to.")
        for name in first_gone:
            (folder / name).unlink(missing_ok=True)
        for name, path in temporary.items():
            path.replace(folder / name)
        for name in then_gone:
            (folder / name).unlink(missing_ok=True)
        sync_folder(folder)
        made = False
    except OSError as fault:
        raise OutputError(
            f"cannot write {fault.filename or folder}: {fault.strerror or fault}",
            hint="Check that the folder is writable and has space. Nothing was changed.",
        ) from fault
    finally:
        for path in temporary.values():
            with suppress(OSError):
                path.unlink()
        if made:
            with suppress(OSError):
                folder.rmdir()


def _make(folder: Path) -> bool:
    """Whether the folder had to be made."""
    try:
        folder.mkdir()
    except FileExistsError:
        if folder.is_dir():
            return False
        raise OutputError(f"cannot make the folder {folder}: a file has that name", hint="Name a folder.") from None
    except OSError as fault:
        raise OutputError(
            f"cannot make the folder {folder}: {fault.strerror or fault}",
            hint="Its parent must be there, and writable.",
        ) from fault
    return True
