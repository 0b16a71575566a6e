"""Write files atomically: a path holds either the old file or the complete new one.

The writer creates a hidden file beside the path, locks it, and renames it at the end. A killed writer leaves its hidden
file behind, but its lock ends with the process, so the next writer of that path removes the file.
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
"""How many hidden names are tried."""


@contextmanager
def atomic_file(path: Path, *, parents: bool = False) -> Iterator[BinaryIO]:
    """Open a new file in ``path``'s folder; on success flush it to disk and rename it to ``path``.

    ``parents``: whether to create missing folders. On any error or interruption the new file and new folders are
    removed and the old file stays. Raises OutputError.
    """
    made: list[Path] = []
    folders = [folder for folder in path.parents if not os.path.lexists(folder)] if parents else []
    try:
        if path.is_dir():
            raise OutputError(f"{path} is a folder", hint="Name a file inside it.")
        if path.exists() and not path.is_file():
            raise OutputError(f"cannot replace {path}: it is not a regular file", hint="Name another file.")
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, _start(path), Path.unlink)
        with _create(path, made) as file:
            temporary = made[-1]
            yield file
            file.flush()
            os.fsync(file.fileno())
            if sys.platform != "win32":  # rename while it is locked; Windows cannot rename open files
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
        for hidden in made:
            with suppress(OSError):
                hidden.unlink()
        for folder in folders:
            with suppress(OSError):
                folder.rmdir()  # fails on one with files


def refuse_over(path: Path, *sources: Path) -> None:
    """Raise OutputError if writing ``path`` would replace one of the files that it is made from."""
    for source in sources:
        if path.exists() and source.exists() and path.samefile(source):
            raise OutputError(
                f"{path} is the input file; refusing to overwrite it", hint="Name another file. Nothing was changed."
            )


def settle(part: Path, path: Path) -> None:
    """Give a complete file its final name."""
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder to disk, where the system can, so that a rename in it is durable."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _start(path: Path) -> str:
    """Return the first part of the names of a path's hidden files.

    It has at most 40 characters of the file's name, because these may take four bytes each and names end at 255 bytes.
    """
    return f".{path.name[:40]}."


def _create(path: Path, made: list[Path]) -> BinaryIO:
    """Create a hidden file for ``path`` that is locked until it is closed.

    Its name goes into ``made`` before the file exists, because an interruption may come at any moment after that.
    """
    for _ in range(TRIES):
        made.append(path.with_name(f"{_start(path)}{secrets.token_hex(8)}.tmp"))
        # "x" applies the umask, and fails on anything that exists, including links.
        file = made[-1].open("xb")
        if lock(file.fileno()) and os.fstat(file.fileno()).st_nlink:
            break
        file.close()  # another writer removed it before it was locked
    return file


def lock(descriptor: int) -> bool:
    """Lock an open file or folder and return whether this process now has the lock.

    Without file locks in the file system, this returns True, and sweep() does not remove anything.
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
    """Remove the hidden files of a folder that begin with ``start`` and that dead writers left behind."""
    if sys.platform == "win32":
        return
    left = re.compile(re.escape(start) + r"[0-9a-f]{16}\.tmp")
    with suppress(OSError):
        for name in os.listdir(parent):  # noqa: PTH208 - only names are needed, and folders can be large
            if left.fullmatch(name):
                with suppress(OSError):
                    descriptor = os.open(parent / name, os.O_RDONLY | os.O_NOFOLLOW)
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        remove(parent / name)
                    finally:
                        os.close(descriptor)
