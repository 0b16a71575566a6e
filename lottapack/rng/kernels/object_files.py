"""Store compiled kernels on disk: each file is named by a hash of all that it was compiled from.

The files are in Python's folder for compiled modules (``__pycache__``, or under ``PYTHONPYCACHEPREFIX``); if that is
not writable, in the user's cache. Each begins with the SHA-256 of the rest, so that a damaged file is compiled again. A
file that cannot be written is not kept.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import BinaryIO

import llvmlite

from lottapack.errors import OutputError
from lottapack.files.cache_folder import cache_folder
from lottapack.files.output import atomic_file
from lottapack.rng.kernels.machine import processor
from lottapack.rng.kernels.source_digest import source_digest

_DIGEST = 32


def read(name: str, module: str) -> bytes | None:
    """Return the object file of a kernel whose source is in ``module``, or None if none can be used."""
    for path, must_own in _places(name, module):
        with suppress(OSError), path.open("rb") as file:
            digest, code = file.read(_DIGEST), file.read()
            if (not must_own or _is_own(file)) and hashlib.sha256(code).digest() == digest:
                return code
    return None


def write(name: str, module: str, code: bytes) -> None:
    """Store an object file, if a folder is writable, and remove older ones of the same kernel."""
    for path, _ in _places(name, module):
        with suppress(OSError, OutputError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as file:
                file.write(hashlib.sha256(code).digest() + code)
            for other in path.parent.glob(f"{name}-*.o"):
                if other != path:
                    other.unlink(missing_ok=True)
            return


def _places(name: str, module: str) -> Iterator[tuple[Path, bool]]:
    """Yield the paths where a kernel's object file may be, and whether the file must belong to this user there.

    Whoever can write beside the source can change the source as well, so only a cache folder, which may be shared,
    needs that check.
    """
    file = f"{name}-{_made_from(module)}.o"
    with suppress(NotImplementedError):
        yield Path(cache_from_source(__file__)).with_name(file), False
    with suppress(OutputError):  # the user does not have a home folder
        yield cache_folder() / "kernels" / file, True


def _is_own(file: BinaryIO) -> bool:
    return sys.platform == "win32" or os.fstat(file.fileno()).st_uid == os.geteuid()


@cache
def _made_from(module: str) -> str:
    """Return a hash of all that machine code depends on: its sources, the compilers and the processor."""
    digest = hashlib.sha256(f"{llvmlite.__version__} {processor()} {module} {source_digest(module)}".encode())
    spec = find_spec("numba")  # its version, without importing it
    version = Path(spec.origin).with_name("_version.py") if spec is not None and spec.origin is not None else None
    if version is not None and version.is_file():
        digest.update(version.read_bytes())
    return digest.hexdigest()[:24]
