"""The packages that the caller of a loader allows packs to import (spec: architectures, section 5; decision 0018).

The loader's call sets them for its duration and its own thread; a pack cannot change them.
"""

import re
import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from lottapack.errors import NotAllowedError

_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_ALLOWED: ContextVar[tuple[str, ...]] = ContextVar("lottapack_allowed", default=())


@contextmanager
def allowing(names: str | Iterable[str]) -> Iterator[None]:
    """Allow these packages and modules with everything inside them, and nothing else. Raises NotAllowedError."""
    token = _ALLOWED.set(checked(names))
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def checked(names: str | Iterable[str]) -> tuple[str, ...]:
    """Return the names as a tuple. Raises NotAllowedError for an invalid name of a package or module."""
    try:
        found = (names,) if isinstance(names, str) else tuple(names)
    except TypeError:
        raise NotAllowedError(
            f"allow={reprlib.repr(names)} is not a list of names",
            hint='Name packages or modules, such as ["ncps"], or leave it out to allow none.',
        ) from None
    for name in found:
        if not isinstance(name, str) or not _MODULE.fullmatch(name):
            raise NotAllowedError(
                f"allow: {name!r} is not the name of a package or module",
                hint='Name packages, such as "ncps", or modules, such as "torch_geometric.nn"; patterns do not work.',
            )
    return found


def allows_any() -> bool:
    """Return whether the caller allowed anything, so that code it trusts runs."""
    return bool(_ALLOWED.get())


def is_allowed(module: str) -> bool:
    """Return whether the caller allowed a module, by its own name or by that of a package around it."""
    return any(module == name or module.startswith(f"{name}.") for name in _ALLOWED.get())


def require_allowed(modules: Iterable[str], what: str) -> None:
    """Raise NotAllowedError naming all modules that the caller did not allow. Imports nothing."""
    missing = sorted({module for module in modules if not is_allowed(module)})
    if missing:
        packages = sorted({module.partition(".")[0] for module in missing})
        raise NotAllowedError(
            f"{what} needs to import {', '.join(missing)}, which `allow` does not include",
            hint=f"If you trust the code of {' and '.join(packages)}, add it: `allow={packages!r}`. A pack "
            "cannot allow anything itself.",
        )
