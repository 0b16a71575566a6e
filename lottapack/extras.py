"""Errors for optional libraries that are not installed."""

from importlib import import_module
from typing import Any

from lottapack.errors import UnsupportedError


def without_torch(fault: ImportError, what: str) -> UnsupportedError:
    """Return the error for ``what``, which needs torch, if torch could not be imported; else raise ``fault``."""
    if (fault.name or "").partition(".")[0] != "torch":
        raise fault
    return UnsupportedError(
        f"{what} needs torch, which is not installed", hint="Install it: pip install 'lottapack[torch]'"
    )


def require(library: str, extra: str, what: str) -> Any:
    """Import a library of an extra. Raises UnsupportedError, saying what to install."""
    try:
        return import_module(library)
    except ImportError as fault:
        raise UnsupportedError(
            f"{what} needs {library}, which cannot be imported ({fault})",
            hint=f"Install it: pip install 'lottapack[{extra}]'",
        ) from fault
