"""Writing several files of one folder so that they appear together, when all of them are whole.

They are written into a hidden folder, locked by its writer, that gets the folder's name in one step; or, where the
folder is there already, whose files get theirs one after another. A writer that is killed leaves its hidden folder; the
lock goes with the process, and the next writer of the same folder removes it.
"""

import filecmp
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from lottapack.errors import OutputError
from lottapack.files.output import TRIES, lock, sweep, sync_folder

Opener = Callable[[str], AbstractContextManager[BinaryIO]]
"""Opens a new file by its name in the folder, which may be one in a folder inside it."""

_SMALL = 1 << 20
"""Bytes of a file up to which it is read to see whether it is what is there already."""


@contextmanager
def staged_folder(folder: Path, *, entries: Iterable[str] = (), gone: Iterable[str] = ()) -> Iterator[Opener]:
    """Make a folder's files; they appear once all are on disk.

    A folder that was not there appears in one step. In one that was, files are renamed in the order of their opening.
    If that is more than one step, what readers look for first is away meanwhile, so that nobody reads a mixture.

    On any error or interruption before that, everything is removed again, and what was there stays.

    Args:
        folder: may be new; its parent must be there.
        entries: names of what readers look for first: open the last one last. Those that are not opened are removed.
        gone: more names that are removed, at the end.

    Raises: OutputError.
    """
    there = _is_there(folder)
    with _reporting(folder), _hidden(folder / ".lottapack" if there else folder) as stage:
        names: list[str] = []

        @contextmanager
        def opened(name: str) -> Iterator[BinaryIO]:
            names.append(name)
            path = stage / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())

        yield opened
        for place in {(stage / name).parent for name in names}:
            sync_folder(place)
        if there or not _is_renamed(stage, folder):
            _replace(stage, folder, names, list(entries), list(gone))
        for place in (folder, folder.parent):
            sync_folder(place)


def _is_renamed(stage: Path, folder: Path) -> bool:
    """Give the hidden folder its name; False if another writer was faster."""
    try:
        stage.rename(folder)
    except OSError:
        if folder.is_dir():
            return False
        raise
    return True


def _replace(stage: Path, folder: Path, names: list[str], entries: list[str], gone: list[str]) -> None:
    """Move files from the hidden folder to their places, and remove those of another checkpoint."""
    for name in names:
        if (folder / name).is_dir():
            raise OutputError(f"{folder / name} is a folder", hint="Choose another folder to write to.")
        (folder / name).parent.mkdir(exist_ok=True)
    moved = [name for name in names if not _is_same(stage / name, folder / name)]
    others = [name for name in (*entries, *gone) if name not in names and (folder / name).exists()]
    if len(moved) + len(others) > 1:
        moved = names
        for name in entries:
            (folder / name).unlink(missing_ok=True)
    for name in moved:
        (stage / name).replace(folder / name)
    for name in others:
        (folder / name).unlink(missing_ok=True)
    for place in {(folder / name).parent for name in moved} - {folder}:
        sync_folder(place)


def _is_same(new: Path, old: Path) -> bool:
    """Whether a small file is there already, byte for byte."""
    return old.is_file() and new.stat().st_size <= _SMALL and filecmp.cmp(new, old, shallow=False)


def _is_there(folder: Path) -> bool:
    if folder.is_dir():
        return True
    if os.path.lexists(folder):
        raise OutputError(f"cannot make the folder {folder}: a file has that name", hint="Name a folder.")
    if not folder.parent.is_dir():
        raise OutputError(
            f"cannot make the folder {folder}: {folder.parent} is no folder",
            hint="Its parent must be there, and writable.",
        )
    return False


@contextmanager
def _reporting(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise OutputError(
            f"cannot write {folder}: {fault.strerror or fault}",
            hint="Check that the folder, or for a new one its parent, is writable and has space.",
        ) from fault


@contextmanager
def _hidden(beside: Path) -> Iterator[Path]:
    """A new folder with a hidden name that begins like another's, locked, and removed at the end if still there."""
    start = f".{beside.name.lstrip('.')[:40]}."
    sweep(beside.parent, start, shutil.rmtree)
    with ExitStack() as stack:
        for _ in range(TRIES):
            stage = beside.with_name(f"{start}{secrets.token_hex(8)}.tmp")
            stage.mkdir()
            stack.callback(shutil.rmtree, stage, ignore_errors=True)
            if _is_ours(stage, stack):
                break
        yield stage


def _is_ours(stage: Path, stack: ExitStack) -> bool:
    """Lock a folder; False if another writer took it for a dead one's before."""
    if sys.platform == "win32":
        return True
    try:
        descriptor = os.open(stage, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    stack.callback(os.close, descriptor)
    return lock(descriptor) and stage.exists()
