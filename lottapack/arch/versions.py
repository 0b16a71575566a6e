"""Refuse libraries that are too old to get an untrusted configuration, whatever this package's metadata say.

Metadata bind an installer once; only this check sees what was installed later or separately.
"""

import re
from functools import cache
from typing import Any, Final

from lottapack.errors import UnsupportedError

_LEAST: Final = {
    "timm": ("1.0.31", "an argument of a model can make it unpickle a file"),
    "torch": ("2.6", "it can unpickle code from checkpoints that should only hold tensors"),
    "transformers": ("5.5", "a configuration can make it load pretrained parts"),
}


def require_sound(package: str) -> None:
    """Raise UnsupportedError if an installed package has a version with a known security hole."""
    least, why = _LEAST[package]
    installed_version = installed(package)
    if installed_version is not None and _numbers(installed_version) < _numbers(least):
        raise UnsupportedError(
            f"{package} {installed_version} is too old to build what a pack describes: {why}",
            hint=f"Install a newer one: pip install '{package}>={least}'",
        )


@cache
def installed(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # takes long, and inspect() does not need it

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def mentions(config: Any, package: str) -> bool:
    """Return whether a configuration has a part of another library, by any key that is set or by any text."""
    if isinstance(config, dict):
        return any((package in str(key).lower() and value) or mentions(value, package) for key, value in config.items())
    if isinstance(config, list | tuple):
        return any(mentions(item, package) for item in config)
    return isinstance(config, str) and package in config.lower()


def _numbers(text: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
