"""Paths that a caller gives."""

import errno
import os
import reprlib
from pathlib import Path

from lottapack.errors import InvalidReferenceError


def path_of(value: object, argument: str) -> Path:
    """Return the path that a caller gave for an argument. Raises InvalidReferenceError for any other object."""
    try:
        path = Path(value)  # type: ignore[arg-type]
        os.lstat(path)
    except (TypeError, ValueError):  # a text with NUL, or one that no file system encodes
        raise InvalidReferenceError(
            f"{argument}={reprlib.repr(value)} is not a path", hint="Pass a string or a pathlib.Path."
        ) from None
    except OSError as fault:
        if fault.errno == errno.ENAMETOOLONG:
            raise InvalidReferenceError(
                f"{argument}={reprlib.repr(value)} is not a path: {fault.strerror}", hint="Pass a shorter one."
            ) from None
    return path


def is_directory(path: Path) -> bool:
    """Return whether a path is a directory, and False if the system cannot look it up, as where it is too long."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir() may raise
