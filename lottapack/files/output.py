"""Writing files so that a path holds the old file or the whole new one, never anything else.

Bytes go to a hidden file beside the path, locked by whoever writes it, and get their name at the end. A writer that is
killed leaves its hidden file; the lock goes with the process, and the next writer of that path removes the file.
"""

import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lottapack.errors import OutputError

if sys.platform != "win32":
    import fcntl

TRIES = 10
"""Names that are tried for something hidden."""


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file in ``path``'s folder; on success flush it to disk and rename it to ``path``.

    On any error or interruption the new file is removed and whatever was at ``path`` stays. Raises OutputError.
    """
    temporary = None
    try:
        if path.is_dir():
            raise OutputError(f"{path} is a folder", hint="Name a file inside it.")
        if path.exists() and not path.is_file():
            raise OutputError(f"{path} is no regular file, so it is not replaced", hint="Name another file.")
        sweep(path.parent, _start(path), Path.unlink)
        with _create(path) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
            if sys.platform != "win32":  # while it is locked; there, an open file has to keep its name
                temporary.replace(path)
        if sys.platform == "win32":
            temporary.replace(path)
        sync_folder(path.parent)
    except OSError as fault:
        raise OutputError(
            f"cannot write {path}: {fault.strerror or fault}",
            hint="Check that the folder exists, is writable and has space. Nothing was changed.",
        ) from fault
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def refuse_over(path: Path, *sources: Path) -> None:
    """Raise OutputError if writing ``path`` would replace one of the files that it is made from."""
    for source in sources:
        if path.exists() and source.exists() and path.samefile(source):
            raise OutputError(
                f"{path} is what is read, and would be lost", hint="Name another file. Nothing was changed."
            )


def sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _start(path: Path) -> str:
    """How the hidden files of a path begin.

    At most 40 characters of its name: four bytes each, and the whole must stay below 255.
    """
    return f".{path.name[:40]}."


def _create(path: Path) -> BinaryIO:
    """A new hidden file for ``path``, locked until it is closed."""
    for _ in range(TRIES):
        # "x" creates with the permissions that the umask gives, and fails on anything that is there, links too.
        file = path.with_name(f"{_start(path)}{secrets.token_hex(8)}.tmp").open("xb")
        if lock(file.fileno()) and os.fstat(file.fileno()).st_nlink:
            break
        file.close()  # taken for a dead writer's before it was locked
    return file


def lock(descriptor: int) -> bool:
    """Whether an open file or folder is now ours alone.

    Where a file system has no locks every one is, and none is swept.
    """
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
    return True


def sweep(parent: Path, start: str, remove: Callable[[Path], object]) -> None:
    """Remove what writers that are gone left in a folder under hidden names with that beginning."""
    if sys.platform == "win32":
        return
    left = re.compile(re.escape(start) + r"[0-9a-f]{16}\.tmp")
    with suppress(OSError):
        for name in os.listdir(parent):  # noqa: PTH208 - names are enough, and folders can be large
            if left.fullmatch(name):
                with suppress(OSError):
                    descriptor = os.open(parent / name, os.O_RDONLY | os.O_NOFOLLOW)
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        remove(parent / name)
                    finally:
                        os.close(descriptor)
