"""Errors for optional libraries that are not installed."""

from lottapack.errors import UnsupportedError


def without_torch(fault: ImportError, what: str) -> UnsupportedError:
    """Return the error for ``what``, which needs torch, if torch could not be imported; else raise ``fault``."""
    if (fault.name or "").partition(".")[0] != "torch":
        raise fault
    return UnsupportedError(
        f"{what} needs torch, which is not installed", hint="Install it: pip install 'lottapack[torch]'"
    )
