"""Libraries that are too old to be given a stranger's configuration, whatever the metadata of this package says.

Metadata bind an installer once; what is installed later, or without it, is only seen here.
"""

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from lottapack.errors import UnsupportedError

_LEAST: Final = {
    "timm": ("1.0.31", "an argument of a model makes it unpickle a file"),
    "torch": ("2.6", "it unpickles code from checkpoints that are said to hold tensors only"),
    "transformers": ("5.5", "a configuration makes it load pretrained parts"),
}


def require_sound(package: str) -> None:
    """Raise UnsupportedError for a version of a package with a known hole; nothing for one that is not installed."""
    least, why = _LEAST[package]
    here = installed(package)
    if here is not None and _numbers(here) < _numbers(least):
        raise UnsupportedError(
            f"{package} {here} is too old to build what a pack describes: {why}",
            hint=f"Install a newer one: pip install '{package}>={least}'",
        )


@cache
def installed(package: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def mentions(config: Any, package: str) -> bool:
    """Whether a configuration has a part of another library, by any key that is set or by any text."""
    if isinstance(config, dict):
        return any((package in str(key).lower() and value) or mentions(value, package) for key, value in config.items())
    if isinstance(config, list | tuple):
        return any(mentions(item, package) for item in config)
    return isinstance(config, str) and package in config.lower()


def _numbers(text: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
