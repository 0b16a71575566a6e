"""Check that a fetched file matches the size and hash that the registry announced, and is a complete pack."""

import hashlib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from lottapack.errors import IntegrityError, Problem
from lottapack.format.packfile import open_pack

AGAIN = (
    "It was removed from the cache. Pull again. If it differs again, the registry's copy is damaged: ask its operator "
    "to repair or remove that copy. A push does not replace a file that the registry has."
)
MAX_SIGNATURE = 1_000_000
"""The most bytes of a signature in a registry; real ones have a few thousand."""
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

    def fresh_hash(self) -> "hashlib._Hash":
        """Return a new hash of the file's algorithm."""
        if self.algorithm == "sha256":
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)

    def problem(self, computed: str) -> Problem | None:
        """Return what is wrong with a file that has this hash, or None. The problem has both hashes."""
        if computed == self.digest:
            return None
        name = {"sha256": "SHA-256", "git": "git id"}[self.algorithm]
        return Problem("sha256", "file", f"has the {name} {computed}, but the registry says {self.digest}")


def difference(path: str | PathLike[str], expected: Expected) -> Problem | None:
    """Return what is wrong with a file, before it is parsed, or None."""
    size = Path(path).stat().st_size
    if size != expected.size:
        return Problem("size", "file", f"has {size:,} bytes, but the registry says {expected.size:,}")
    computed = expected.fresh_hash()
    with Path(path).open("rb") as file:
        while piece := file.read(_PIECE):
            computed.update(piece)
    return expected.problem(computed.hexdigest())


def sha256_of(path: str | PathLike[str]) -> str:
    """Return the SHA-256 of a whole file in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
