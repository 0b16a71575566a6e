"""Back up a registry while it is served, and restore it.

A backup has the layout of a registry: one state of the index, and every blob that it names, each hashed. The index is
copied first, by SQLite's own backup, so that writers do not wait; then the blobs; the new index gets its final name at
the end. So the folder always holds the last complete backup, and the next run continues from it. A marker file
identifies a backup, so that a registry is never overwritten as one, and a backup never served.
"""

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from filelock import FileLock, Timeout

from lottapack.errors import IntegrityError, OutputError, Problem
from lottapack.files.output import sync_folder
from lottapack.files.paths import path_of
from lottapack.progress import Progress
from lottapack_serve.blobs import BlobStore, blob_path
from lottapack_serve.database import FILE
from lottapack_serve.refusals import RefusedError

MARK = "backup"
"""The marker file of a folder with a backup."""
_NEXT = f"{FILE}.next"
_TRIES = 20
"""How many times the index is copied again because repositories were deleted meanwhile."""
_PIECE = 2**20


@dataclass(frozen=True, slots=True)
class Copied:
    """A complete backup: its ``blobs`` and ``size`` in bytes, and how many ``new`` blobs this run copied."""

    target: Path
    repositories: int
    blobs: int
    size: int
    new: int


class _LostError(Exception):
    """A blob is not where the index says. ``sha256``: its hash. ``fault``: "missing" or "changed"."""

    def __init__(self, sha256: str, fault: str) -> None:
        super().__init__(sha256)
        self.sha256 = sha256
        self.fault = fault


def backup(root: str | PathLike[str], target: str | PathLike[str], progress: Progress | None = None) -> Copied:
    """Copy the registry in ``root``, which may be served meanwhile, to ``target``: a new folder, or an older backup.

    Every blob of the backup is hashed, including those of older runs, and copied again if it changed. ``progress`` is
    called with bytes. Raises OutputError if the registry is missing, or if the target contains something else, is
    in use or cannot be written; IntegrityError if the registry has lost a content, without changing the backup.
    """
    root, target = path_of(root, "root"), path_of(target, "target")
    _refuse_file(target)
    if target.exists() and any(target.iterdir()) and not (target / MARK).exists():
        raise OutputError(f"{target} contains other files", hint="Pass a new folder, or one with an older backup.")
    if target.resolve().is_relative_to(root.resolve()):
        raise OutputError(f"{target} is inside of the registry {root}", hint="Pass a folder outside of it.")
    return _copied(root, target, progress)


def restore(copy: str | PathLike[str], root: str | PathLike[str], progress: Progress | None = None) -> Copied:
    """Restore the backup in ``copy``, which stays, to a registry in ``root``, a new folder. Checks it like a backup.

    Raises OutputError if ``root`` is not empty or inside of ``copy``, or ``copy`` is not a backup; IntegrityError if
    the backup is damaged.
    """
    copy, root = path_of(copy, "copy"), path_of(root, "root")
    _refuse_file(root)
    if root.exists() and any(root.iterdir()) and not ((root / MARK).exists() and not (root / FILE).exists()):
        raise OutputError(f"{root} is not empty", hint="Pass a new folder for the registry.")
    if root.resolve().is_relative_to(copy.resolve()):
        raise OutputError(f"{root} is inside of the backup {copy}", hint="Pass a folder outside of it.")
    copied = _copied(copy, root, progress)
    (root / MARK).unlink()
    return copied


def _refuse_file(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target} is a file", hint="Pass a new folder.")


def _copied(root: Path, target: Path, progress: Progress | None) -> Copied:
    if not (root / FILE).is_file():
        raise OutputError(
            f"{root} does not contain a registry", hint="Pass the folder that is served, or a backup of it."
        )
    try:
        with _held(target):
            return _copy(root, target, progress)
    except (OSError, sqlite3.Error, RefusedError) as fault:
        raise OutputError(
            f"cannot copy {root} to {target}: {fault}",
            hint="Check that the first can be read, and that the second can be written and has space. Then run it "
            "again; it continues.",
        ) from fault


@contextmanager
def _held(target: Path) -> Iterator[None]:
    """Lock the target, so that nobody serves it or writes another backup there."""
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(target / "serve.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as fault:
        raise OutputError(f"another process uses {target}", hint="Wait for it, or pass another folder.") from fault
    try:
        (target / MARK).write_text("Created by lottapack serve backup. Restore it with: lottapack serve restore\n")
        yield
    finally:
        lock.release()


def _copy(root: Path, target: Path, progress: Progress | None) -> Copied:
    index, store = root / FILE, BlobStore(target)
    checked: set[str] = set()
    new = 0
    for _ in range(_TRIES):
        _take_index(index, target / _NEXT)
        with closing(sqlite3.connect(target / _NEXT)) as db:
            blobs = db.execute("SELECT sha256, size FROM blobs ORDER BY sha256").fetchall()
            repositories = db.execute("SELECT count(*) FROM repos").fetchone()[0]
        total, done = sum(size for _, size in blobs), 0
        try:
            for sha256, size in blobs:
                if sha256 not in checked:
                    new += _bring(blob_path(root, sha256), store, sha256)
                    checked.add(sha256)
                done += size
                if progress:
                    progress(done, total)
        except _LostError as lost:
            if _is_known(index, lost.sha256):
                problem = Problem("lost-content", f"blobs/{lost.sha256[:2]}/{lost.sha256}", f"is {lost.fault}")
                hint = f"{target} was not changed. Find the affected files with: lottapack serve check --root {root}"
                raise IntegrityError(str(root), [problem], hint=hint) from lost
            continue  # its repository was deleted after the index was copied
        for folder in (target / "blobs").iterdir():
            sync_folder(folder)
        sync_folder(target / "blobs")
        for end in ("-wal", "-shm"):  # left by a command that read the older index and was killed
            (target / f"{FILE}{end}").unlink(missing_ok=True)
        (target / _NEXT).replace(target / FILE)
        sync_folder(target)
        store.sweep({sha256 for sha256, _ in blobs})
        return Copied(target, repositories, len(blobs), total, new)
    raise OutputError(
        f"repositories of {root} were deleted faster than they could be copied", hint="Run it again; it continues."
    )


def _take_index(index: Path, target: Path) -> None:
    """Copy one state of the index to a separate file."""
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(index, timeout=30)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
        faults = [row[0] for row in copy.execute("PRAGMA integrity_check(1)")]
    if faults != ["ok"]:
        problem = Problem("damaged-index", "", f"SQLite says: {faults[0]}")
        raise IntegrityError(str(index), [problem], hint="Restore the registry from an older backup.")
    descriptor = os.open(target, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _bring(source: Path, store: BlobStore, sha256: str) -> bool:
    """Ensure that the backup has a blob; return whether it had to be copied. Raises _LostError."""
    target = store.path(sha256)
    with suppress(FileNotFoundError), target.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
            return False
    arriving = store.receive()
    try:
        with source.open("rb") as file:
            while piece := file.read(_PIECE):
                arriving.write(piece)
        arriving.finish()
        if arriving.blob.sha256 != sha256:
            raise _LostError(sha256, "changed")
        store.flush([arriving])
        target.parent.mkdir(exist_ok=True)
        arriving.path.replace(target)
    except FileNotFoundError as fault:
        raise _LostError(sha256, "missing") from fault
    finally:
        arriving.discard()
    return True


def _is_known(index: Path, sha256: str) -> bool:
    with closing(sqlite3.connect(index, timeout=30)) as db:
        return db.execute("SELECT 1 FROM blobs WHERE sha256 = ?", (sha256,)).fetchone() is not None
