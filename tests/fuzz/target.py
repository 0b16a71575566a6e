"""What one input goes through: everything that reads a stranger's file and needs no torch, and then the skeleton."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from lottapack.errors import LottapackError
from lottapack.format.packfile import open_pack
from lottapack.reports import inspection, reporting

SECONDS = 10.0
"""Of processor time; more is a hang."""


class SlowError(Exception):
    """An input took longer than SECONDS."""


def read(path: Path, build: "Callable[[object], object] | None" = None) -> bool:
    """Open, check and describe a file; whether it was accepted. Raises whatever is outside the tree of errors.

    ``build``: called with the descriptor of what passed every check.
    """
    try:
        with open_pack(path) as pack:
            pack.check_tensors()
            pack.declared_bytes()
            if pack.descriptor.to_bytes() != pack.descriptor.to_bytes():
                raise AssertionError("the descriptor has two forms")
            descriptor = pack.descriptor
        inspection.inspect(path)
        reporting.report(path)
        if build is not None:
            build(descriptor)
    except LottapackError as error:
        if not str(error):
            raise AssertionError("an error without words") from error
        return False
    return True


def one(
    data: bytes, path: Path, build: "Callable[[object], object] | None" = None, seconds: float | None = None
) -> bool:
    """As read(), of bytes, within SECONDS or others; what imports a library the first time gets a second chance."""
    path.write_bytes(data)
    for _ in range(2):
        begin = time.process_time()
        accepted = read(path, build)
        taken = time.process_time() - begin
        if taken <= (SECONDS if seconds is None else seconds):
            return accepted
    raise SlowError(f"{len(data)} bytes took {taken:.2f} s")


def scratch(folder: Path) -> Path:
    """A file of this process alone, in memory where there is such a folder."""
    memory = Path("/dev/shm")
    return (memory if memory.is_dir() else folder) / f"lottapack-fuzz-{os.getpid()}"
