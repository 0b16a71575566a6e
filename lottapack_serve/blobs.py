"""The contents of files, each once, under their SHA-256: ``blobs/ab/ab12...``.

What arrives is written to ``incoming/`` first. It moves to its place only when a commit takes it, flushed to disk
before, so a blob that is in its place is whole.
"""

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lottapack.files.output import sync_folder
from lottapack_serve.gitids import blob_id
from lottapack_serve.refusals import RefusedError, disk_full

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Blob:
    """A file's content: its SHA-256, its size in bytes and its id in git."""

    sha256: str
    size: int
    oid: str


def blob_path(root: Path, sha256: str) -> Path:
    """Where a blob is in a registry's folder, if it is there."""
    return root / "blobs" / sha256[:2] / sha256


class BlobStore:
    """The blobs in a registry's folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._blobs = root / "blobs"
        self._incoming = root / "incoming"
        for folder in (self._blobs, self._incoming):
            folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where a blob is, if it is there."""
        return blob_path(self._root, sha256)

    def is_there(self, blob: Blob) -> bool:
        """Whether a blob is in its place, with its size."""
        try:
            return self.path(blob.sha256).stat().st_size == blob.size
        except FileNotFoundError:
            return False

    def receive(self) -> "Incoming":
        """A new file for content that arrives."""
        return Incoming(self._incoming / secrets.token_hex(16))

    def flush(self, arrived: Sequence["Incoming"]) -> None:
        """Flush finished contents to disk. Raises RefusedError of status 507 where it is full."""
        try:
            _at_once(_flush, [incoming.path for incoming in arrived])
        except OSError as fault:
            raise _refusal(fault) from fault

    def keep(self, arrived: Iterable["Incoming"]) -> list[str]:
        """Move flushed contents to their places; returns the SHA-256 of those that were not there before."""
        new, folders = [], set()
        try:
            for incoming in arrived:
                target = self.path(incoming.blob.sha256)
                target.parent.mkdir(exist_ok=True)
                known = target.exists()
                # Also over an old one: if its bits had decayed, they are whole again.
                incoming.path.replace(target)
                folders.add(target.parent)
                if not known:
                    new.append(incoming.blob.sha256)
            _at_once(sync_folder, list(folders))
            sync_folder(self._blobs)
        except OSError as fault:
            self.remove(new)
            raise _refusal(fault) from fault
        return new

    def remove(self, hashes: Iterable[str]) -> None:
        """Delete blobs."""
        for sha256 in hashes:
            self.path(sha256).unlink(missing_ok=True)

    def sweep(self, known: Collection[str]) -> int:
        """Delete what a server that was killed left: all that arrives, and blobs that no commit knows. How many."""
        left = list(self._incoming.iterdir())
        left += [path for path in self._blobs.glob("??/*") if path.name not in known]
        for path in left:
            path.unlink()
        return len(left)


class Incoming:
    """Content on its way in: write() pieces, then finish(); discard() at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._digest = hashlib.sha256()
        self._blob: Blob | None = None
        self._file: BinaryIO
        try:
            self._file = path.open("xb+", buffering=0)
        except OSError as fault:
            raise _refusal(fault) from fault

    @property
    def blob(self) -> Blob:
        """What arrived, once finish() was called."""
        if self._blob is None:
            raise ValueError("not finished")
        return self._blob

    def write(self, piece: bytes) -> None:
        """Append a piece. Raises RefusedError of status 507 where the disk is full."""
        self._digest.update(piece)
        self.size += len(piece)
        try:
            left = memoryview(piece)
            while left:
                left = left[self._file.write(left) :]
        except OSError as fault:
            raise _refusal(fault) from fault

    def finish(self) -> None:
        """Close; whoever keeps it flushes it first."""
        # Git's id begins with the size, which is known only now, so the content is read once more.
        self._file.seek(0)
        self._blob = Blob(self._digest.hexdigest(), self.size, blob_id(self._file, self.size))
        self._file.close()

    def discard(self) -> None:
        """Close and delete, if no commit has taken it."""
        self._file.close()
        with suppress(FileNotFoundError):
            self.path.unlink()


def _flush(path: Path) -> None:
    with path.open("rb+", buffering=0) as file:
        os.fsync(file.fileno())


def _at_once(work: Callable[[Path], None], paths: Sequence[Path]) -> None:
    """Do the same for many paths. The disk writes what waits for it together, so four wait at a time."""
    if len(paths) < 2:
        for path in paths:
            work(path)
        return
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(work, paths):
            pass


def _refusal(fault: OSError) -> RefusedError:
    if fault.errno in _FULL:
        return disk_full()
    return RefusedError(500, f"The registry cannot write to its disk: {fault.strerror or fault}.")
