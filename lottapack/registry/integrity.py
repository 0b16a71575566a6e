"""Check that a fetched file matches the size and hash that the registry announced, and is a complete pack."""

import hashlib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from lottapack.errors import IntegrityError, Problem
from lottapack.format.packfile import open_pack

AGAIN = (
    "It was removed from the cache. Pull again. If it differs again, the registry's copy is damaged: push the "
    "pack again."
)
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Expected:
    """What a registry says about a file before it is fetched.

    ``algorithm``: ``sha256`` of the content; or ``git`` for git's SHA-1 of it, which is all that the Hub knows about a
    file that it keeps in git itself.
    """

    size: int
    algorithm: str
    digest: str


def difference(path: str | PathLike[str], expected: Expected) -> Problem | None:
    """Return what is wrong with a file, before it is parsed, or None. The problem has both hashes."""
    size = Path(path).stat().st_size
    if size != expected.size:
        return Problem("size", "file", f"has {size:,} bytes, but the registry says {expected.size:,}")
    computed = digest(path, expected.algorithm)
    if computed == expected.digest:
        return None
    name = {"sha256": "SHA-256", "git": "git id"}[expected.algorithm]
    return Problem("sha256", "file", f"has the {name} {computed}, but the registry says {expected.digest}")


def digest(path: str | PathLike[str], algorithm: str) -> str:
    """Return the hash of a whole file, ``sha256`` or ``git``, in hex."""
    with Path(path).open("rb") as file:
        if algorithm == "sha256":
            return hashlib.file_digest(file, "sha256").hexdigest()
        sha1 = hashlib.sha1(b"blob %d\0" % Path(path).stat().st_size, usedforsecurity=False)
        while piece := file.read(_PIECE):
            sha1.update(piece)
        return sha1.hexdigest()


def check_pack(path: str | PathLike[str], known: Expected | None = None) -> str:
    """Check a pack's header, descriptor and every stored tensor's hash, without torch; return the file's SHA-256.

    ``known``: the verified values of the whole file, so that it need not be hashed again. Raises FormatError,
    IntegrityError.
    """
    with open_pack(path) as pack:
        pack.check_tensors()
        return known.digest if known and known.algorithm == "sha256" else pack.file_sha256()


def refuse(path: str | PathLike[str], problem: Problem) -> IntegrityError:
    """Return the error for a file that differs even when fetched again."""
    return IntegrityError(str(path), [problem], hint=AGAIN)
