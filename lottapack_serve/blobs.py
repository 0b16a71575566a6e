"""The contents of files, each stored once under its SHA-256: ``blobs/ab/ab12...``.

Arriving content is first written to ``incoming/``. It is flushed to disk and moved to its final path only when a commit
uses it, so a blob at its final path is complete.
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
    """Return the path of a blob in a registry's folder, whether it exists or not."""
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
        """Return the path of a blob, whether it exists or not."""
        return blob_path(self._root, sha256)

    def is_there(self, blob: Blob) -> bool:
        """Return whether a blob exists with its size."""
        try:
            return self.path(blob.sha256).stat().st_size == blob.size
        except FileNotFoundError:
            return False

    def open(self, blob: Blob) -> BinaryIO | None:
        """Open a blob, or return None if it is missing or does not have its size."""
        try:
            file = self.path(blob.sha256).open("rb")
        except FileNotFoundError:
            return None
        if os.fstat(file.fileno()).st_size == blob.size:
            return file
        file.close()
        return None

    def receive(self) -> "Incoming":
        """Return a new file for arriving content."""
        return Incoming(self._incoming / secrets.token_hex(16))

    def flush(self, arrived: Sequence["Incoming"]) -> None:
        """Flush finished contents to disk. Raises RefusedError with status 507 if the disk is full."""
        try:
            _at_once(_flush, [incoming.path for incoming in arrived])
        except OSError as fault:
            raise _refusal(fault) from fault

    def keep(self, arrived: Iterable["Incoming"]) -> list[str]:
        """Move flushed contents to their final paths; return the SHA-256 of those that are new."""
        new, folders = [], set()
        try:
            for incoming in arrived:
                target = self.path(incoming.blob.sha256)
                target.parent.mkdir(exist_ok=True)
                known = target.exists()
                # Also replaces an old blob, which repairs it if its bits had decayed.
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
        """Delete what a killed server left: arriving content, and blobs that no commit uses. Return how many."""
        left = list(self._incoming.iterdir())
        left += [path for path in self._blobs.glob("??/*") if path.name not in known]
        for path in left:
            path.unlink()
        return len(left)


class Incoming:
    """Arriving content: write() pieces, then finish(); discard() at any time."""

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
        """The content, after finish() was called."""
        if self._blob is None:
            raise ValueError("not finished")
        return self._blob

    def write(self, piece: bytes) -> None:
        """Append a piece. Raises RefusedError with status 507 if the disk is full."""
        self._digest.update(piece)
        self.size += len(piece)
        try:
            left = memoryview(piece)
            while left:
                left = left[self._file.write(left) :]
        except OSError as fault:
            raise _refusal(fault) from fault

    def finish(self) -> None:
        """Close the file; the caller of keep() flushes it first."""
        # Git's id begins with the size, which is only known now, so the content is read once more.
        self._file.seek(0)
        self._blob = Blob(self._digest.hexdigest(), self.size, blob_id(self._file, self.size))
        self._file.close()

    def discard(self) -> None:
        """Close the file, and delete it if no commit has used it."""
        self._file.close()
        with suppress(FileNotFoundError):
            self.path.unlink()


def _flush(path: Path) -> None:
    with path.open("rb+", buffering=0) as file:
        os.fsync(file.fileno())


def _at_once(work: Callable[[Path], None], paths: Sequence[Path]) -> None:
    """Call ``work`` for several paths, four at a time, because the disk writes what is waiting for it together."""
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
