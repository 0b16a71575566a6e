"""Libraries that not every installation has: what lottapack says where one is missing."""

from lottapack.errors import UnsupportedError


def without_torch(fault: ImportError, what: str) -> UnsupportedError:
    """The error for ``what``, which needs torch, if that is what could not be imported; raises ``fault`` otherwise."""
    if (fault.name or "").partition(".")[0] != "torch":
        raise fault
    return UnsupportedError(
        f"{what} needs torch, which is not installed", hint="Install it: pip install 'lottapack[torch]'"
    )
