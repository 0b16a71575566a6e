"""Hash every blob of a registry again, to find what a disk has lost or changed."""

import hashlib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from lottapack.files.paths import path_of
from lottapack.progress import Progress
from lottapack_serve.blobs import BlobStore
from lottapack_serve.database import existing


@dataclass(frozen=True, slots=True)
class Damage:
    """A damaged blob.

    ``fault``: "missing" or "changed". ``files``: all its uses, as ``owner/name: path``.
    """

    sha256: str
    size: int
    fault: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """The result of a check: what was read, and what is damaged. ``size`` is in bytes."""

    root: Path
    blobs: int
    size: int
    damaged: tuple[Damage, ...]


def check(root: str | PathLike[str], progress: Progress | None = None) -> StoreCheck:
    """Hash every blob that a commit uses. ``progress`` is called with bytes. The registry may be served meanwhile.

    Raises OutputError if ``root`` does not contain a registry.
    """
    root = path_of(root, "root")
    database, damaged, done = existing(root), [], 0
    store = BlobStore(root)
    with database.read() as db:
        blobs = [tuple(row) for row in db.execute("SELECT sha256, size FROM blobs ORDER BY sha256")]
        total = sum(size for _, size in blobs)
        for sha256, size in blobs:
            fault = _fault(store.path(sha256), sha256)
            if fault:
                uses = db.execute(
                    "SELECT DISTINCT owner || '/' || repos.name || ': ' || folder "
                    "|| iif(folder = '', '', '/') || entries.name "
                    "FROM entries JOIN commits ON revision = number JOIN repos ON repos.id = repo "
                    "WHERE sha256 = ? ORDER BY 1",
                    (sha256,),
                )
                damaged.append(Damage(sha256, size, fault, tuple(row[0] for row in uses)))
            done += size
            if progress:
                progress(done, total)
    return StoreCheck(root, len(blobs), total, tuple(damaged))


def _fault(path: Path, sha256: str) -> str:
    try:
        with path.open("rb") as file:
            return "" if hashlib.file_digest(file, "sha256").hexdigest() == sha256 else "changed"
    except FileNotFoundError:
        return "missing"
