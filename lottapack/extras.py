"""Errors for optional libraries that are not installed."""

from importlib import import_module
from typing import Any

from lottapack.errors import UnsupportedError


def missing(what: str, library: str, extra: str, fault: ImportError) -> UnsupportedError:
    """Return the error for ``what``, which needs a library of an extra that cannot be imported."""
    absent = isinstance(fault, ModuleNotFoundError) and fault.name == library.partition(".")[0]
    why = "is not installed" if absent else f"cannot be imported ({fault})"
    return UnsupportedError(
        f"{what} needs {library}, which {why}", hint=f"Install it: pip install 'lottapack[{extra}]'"
    )


def without_torch(fault: ImportError, what: str) -> UnsupportedError:
    """Return the error for ``what``, which needs torch, if torch could not be imported; else raise ``fault``."""
    if (fault.name or "").partition(".")[0] != "torch":
        raise fault
    return missing(what, "torch", "torch", fault)


def require(library: str, extra: str, what: str) -> Any:
    """Import a library of an extra. Raises UnsupportedError, saying what to install."""
    try:
        return import_module(library)
    except ImportError as fault:
        raise missing(what, library, extra, fault) from fault
