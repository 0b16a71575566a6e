"""Compiled kernels on disk: machine code in files of its own, each named by all that it was made from.

They lie where Python keeps compiled modules (``__pycache__``, or under ``PYTHONPYCACHEPREFIX``); where nothing can be
written there, in the user's cache. A file that is cut short or changed is made anew: it begins with the SHA-256 of the
rest. What cannot be written is not kept.
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

_DIGEST = 32


def read(name: str, module: str) -> bytes | None:
    """The object file of a kernel whose source is in ``module``, or None if there is none that can be used."""
    for path, own in _places(name, module):
        with suppress(OSError), path.open("rb") as file:
            digest, code = file.read(_DIGEST), file.read()
            if (not own or _is_own(file)) and hashlib.sha256(code).digest() == digest:
                return code
    return None


def write(name: str, module: str, code: bytes) -> None:
    """Keep an object file, if there is a place to, and remove those of the same kernel that other source left there."""
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
    """Where a kernel's object file may lie, and whether it must be this user's own there.

    Beside the source, whoever can write code can write the source as well. A cache may be shared.
    """
    file = f"{name}-{_made_from(module)}.o"
    with suppress(NotImplementedError):
        yield Path(cache_from_source(__file__)).with_name(file), False
    with suppress(RuntimeError):  # there is no home
        yield cache_folder() / "kernels" / file, True


def _is_own(file: BinaryIO) -> bool:
    return sys.platform == "win32" or os.fstat(file.fileno()).st_uid == os.geteuid()


@cache
def _made_from(module: str) -> str:
    """A hash of all that machine code is made from: the module and what it may use, compilers, processor."""
    digest = hashlib.sha256(f"{llvmlite.__version__} {processor()}".encode())
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    for other, file in ((module, None), ("numba", "_version.py")):  # numba's version, without importing it
        found = find_spec(other)
        if found is not None and found.origin is not None:
            sources.append(Path(found.origin).with_name(file) if file else Path(found.origin))
    for path in sources:
        content = path.read_bytes() if path.is_file() else b""
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:24]
