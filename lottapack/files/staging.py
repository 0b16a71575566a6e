"""Write several files of a folder so that they appear together, once all are complete.

The writer creates a hidden folder, locks it, and writes the files into it. It then gives the hidden folder its final
name or, if the target folder already exists, moves the files one after another. A killed writer leaves its hidden
folder behind, but its lock ends with the process, so the next writer of the same folder removes it.
"""

import filecmp
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lottapack.errors import OutputError
from lottapack.files.output import TRIES, lock, refuse_over, sweep, sync_folder

Opener = Callable[[str], AbstractContextManager[BinaryIO]]
"""Opens a new file of the folder by its name, which may contain subfolders."""

_SMALL = 1 << 20
"""Files up to this many bytes are compared with the existing file, and not replaced if they are equal."""


@contextmanager
def staged_folder(
    folder: Path, *, entries: Iterable[str] = (), gone: Iterable[str] = (), sources: Iterable[Path] = ()
) -> Iterator[Opener]:
    """Write a folder's files; they appear once all are on disk.

    A new folder appears in one step. In an existing folder, the files are renamed in the order in which they were
    opened. If that takes more than one step, the entry files are away meanwhile, so that readers never see a mixture.

    On any error or interruption the new files are removed, and the old ones stay or go back to their places. Where the
    disk refuses that too, they stay in the hidden folder, which the error names.

    Args:
        folder: the folder, which may be new; its parent must exist.
        entries: names of the files that readers look for first. Open the main one last. Those that are not opened are
            removed.
        gone: more names to remove at the end.
        sources: the files from which the folder is made, which must stay.

    Raises:
        OutputError: the folder cannot be written, or a file would replace or remove one of ``sources``.
    """
    entries, gone, sources = list(entries), list(gone), list(sources)
    exists = _is_there(folder)
    with _reporting(folder), _hidden(folder / ".lottapack" if exists else folder) as stage:
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
        for touched in {(stage / name).parent for name in names}:
            sync_folder(touched)
        if exists or not _is_renamed(stage, folder):
            for name in (*names, *entries, *gone):
                refuse_over(folder / name, *sources)
            _replace(stage, folder, names, entries, gone)
        for touched in (folder, folder.parent):
            sync_folder(touched)


@contextmanager
def filled_folder(folder: Path, entry: str) -> Iterator[Path]:
    """Yield a hidden folder for a library to fill; it becomes ``folder``, which is new or empty, once all is complete.

    Missing parents are made. In a folder that exists, ``entry``, the file that readers look for first, appears last. On
    any error or interruption the new files are removed. Raises OutputError.
    """
    with _reporting(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    exists = _is_there(folder)
    with _reporting(folder), _hidden(folder / ".lottapack" if exists else folder) as stage:
        yield stage
        for path in stage.rglob("*"):
            if path.is_dir():
                sync_folder(path)
            else:
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        sync_folder(stage)
        if exists or not _is_renamed(stage, folder):
            for name in sorted(os.listdir(stage), key=lambda name: name == entry):  # noqa: PTH208 - names
                (stage / name).rename(folder / name)
        for touched in (folder, folder.parent):
            sync_folder(touched)


def _is_renamed(stage: Path, folder: Path) -> bool:
    """Rename the hidden folder to its final name; return False if another writer was faster."""
    try:
        stage.rename(folder)
    except OSError:
        if folder.is_dir():
            return False
        raise
    return True


def _replace(stage: Path, folder: Path, names: list[str], entries: list[str], gone: list[str]) -> None:
    """Move files from the hidden folder into the folder, and remove those of the previous checkpoint."""
    for name in (*names, *entries, *gone):
        path = folder / name
        if path.is_dir():
            raise OutputError(
                f"cannot {'write' if name in names else 'remove'} {path}: a folder has that name",
                hint="Choose another output folder.",
            )
    moved = [name for name in names if not _is_same(stage / name, folder / name)]
    others = [name for name in (*entries, *gone) if name not in names and (folder / name).exists()]
    several = len(moved) + len(others) > 1
    with _restoring(folder, stage / ".old") as aside:
        if several:
            moved = names
            for name in entries:
                aside(name)
        for name in moved:
            (folder / name).parent.mkdir(exist_ok=True)
            if several:
                aside(name)
            (stage / name).replace(folder / name)
        for name in others:
            aside(name)
    for touched in {(folder / name).parent for name in moved} - {folder}:
        sync_folder(touched)


@contextmanager
def _restoring(folder: Path, kept: Path) -> Iterator[Callable[[str], None]]:
    """Yield a function that moves a file of a folder to ``kept``, if it exists. On an error all go back."""
    old: list[str] = []
    new: list[str] = []

    def aside(name: str) -> None:
        if not os.path.lexists(folder / name):
            new.append(name)
            return
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        old.append(name)
        (folder / name).rename(kept / name)

    try:
        yield aside
    except BaseException as fault:
        for name in new:
            with suppress(OSError):
                (folder / name).unlink()
        for name in old:
            with suppress(OSError):
                (kept / name).replace(folder / name)
        if any(os.path.lexists(kept / name) for name in old):
            raise _NotPutBackError(
                f"cannot write {folder}, and files that it held could not be put back: they are in {kept}",
                hint="Move them back before anything is written there again.",
            ) from fault
        raise


class _NotPutBackError(OutputError):
    """The hidden folder holds files of the user, and must stay."""


def _is_same(new: Path, old: Path) -> bool:
    """Return whether the small file already exists with the same bytes."""
    return old.is_file() and new.stat().st_size <= _SMALL and filecmp.cmp(new, old, shallow=False)


def _is_there(folder: Path) -> bool:
    if folder.is_dir():
        return True
    if os.path.lexists(folder):
        raise OutputError(f"cannot create the folder {folder}: a file has that name", hint="Choose another name.")
    if not folder.parent.is_dir():
        raise OutputError(
            f"cannot create the folder {folder}: {folder.parent} is not a folder",
            hint="Create its parent first.",
        )
    return False


@contextmanager
def _reporting(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise OutputError(
            f"cannot write {folder}: {fault.strerror or fault}",
            hint="Check that the folder, or the parent of a new one, is writable and has space.",
        ) from fault


@contextmanager
def _hidden(beside: Path) -> Iterator[Path]:
    """Create a locked folder with a hidden name like ``beside``; remove it at the end if it still exists."""
    start = f".{beside.name.lstrip('.')[:40]}."
    sweep(beside.parent, start, shutil.rmtree)
    with ExitStack() as locks, ExitStack() as removal:
        for _ in range(TRIES):
            stage = beside.with_name(f"{start}{secrets.token_hex(8)}.tmp")
            removal.callback(_remove, stage)  # before it exists: an interruption may follow
            stage.mkdir()
            if _is_ours(stage, locks):
                break
        try:
            yield stage
        except _NotPutBackError:
            removal.pop_all()
            raise


def _remove(stage: Path) -> None:
    """Remove a folder, as far as the system allows, and also its rest if this is interrupted."""
    try:
        shutil.rmtree(stage, ignore_errors=True)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise


def _is_ours(stage: Path, stack: ExitStack) -> bool:
    """Lock a folder; return False if another writer removed it before."""
    if sys.platform == "win32":
        return True
    try:
        descriptor = os.open(stage, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    stack.callback(os.close, descriptor)
    return lock(descriptor) and stage.exists()
