"""The files that building a module may open: those of installed packages, and a few that describe the machine."""

import os
import site
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from lottapack.arch import trust

_MACHINE = (
    "/dev/null",
    "/dev/urandom",
    "/etc/os-release",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/self/maps",
    "/proc/self/status",
    "/proc/stat",
    "/proc/version",
    "/sys/devices/system/",
    "/usr/lib/os-release",
)
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/System/Library")
_METADATA = (".dist-info", ".egg-info")


def may_read(path: str) -> bool:
    """Return whether a path is in the folder of a package, or one of a few that describe the machine.

    Also true for a folder in which Python looks for modules, which may be the current folder: its listing, not its
    files.
    """
    full = os.path.realpath(path)
    return (
        _belongs(full)
        or (".." not in path and _belongs(str(Path(path).absolute())))  # for packages that are links
        or full == os.path.realpath(sys.executable)
        or any(full == os.path.realpath(entry or os.curdir) for entry in sys.path)
        or any(full == known or (known.endswith("/") and full.startswith(known)) for known in _MACHINE)
    )


def is_temporary(full: str) -> bool:
    """Return whether a file is in the system's folder for temporary files."""
    return _within(full, os.path.realpath(tempfile.gettempdir()))


def is_folder_of_temporaries(full: str) -> bool:
    """Return whether a path is that folder itself, or Python's folder for compiled modules in it."""
    folder = Path(tempfile.gettempdir()).resolve()
    return Path(full) in (folder, folder / "__pycache__")


def may_write(path: str) -> bool:
    """Return whether a file is compiled code that importing a module writes into a package."""
    full = os.path.realpath(path)
    if sys.pycache_prefix and _within(full, os.path.realpath(sys.pycache_prefix)):
        return True
    return "__pycache__" in Path(full).parts and _belongs(full)


def may_link(name: str) -> bool:
    """Return whether a compiled library may be loaded: one that the system finds by name, or one of a package."""
    full = os.path.realpath(name)
    return Path(name).name == name or any(_within(full, folder) for folder in _LIBRARIES) or may_read(name)


def _belongs(full: str) -> bool:
    return any(_within(full, folder) for folder in _installed()) or any(_within(full, f) for f in _imported(full))


def _within(full: str, folder: str) -> bool:
    return full == folder or full.startswith(folder.rstrip(os.sep) + os.sep)


@cache
def _installed() -> tuple[str, ...]:
    """Return the standard library and the folders in which packages are installed."""
    names = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    names |= {*site.getsitepackages(), site.getusersitepackages()}
    names |= {entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")}
    return tuple({os.path.realpath(name) for name in names if name} | {name for name in names if name})


def _imported(full: str) -> Iterator[str]:
    """Yield the folders of packages elsewhere, such as in a checkout, and of their metadata."""
    for name, module in list(sys.modules.items()):
        if "." not in name:
            file = getattr(module, "__file__", None)
            if trust.is_allowed(name) and isinstance(file, str):
                yield os.path.realpath(file)  # a single-file module
            for folder in list(getattr(module, "__path__", None) or ()):
                if isinstance(folder, str):
                    yield os.path.realpath(folder)
    for entry in sys.path:
        rest = full.removeprefix(os.path.realpath(entry or os.curdir) + os.sep)
        first = rest.partition(os.sep)[0]
        if rest != full and first.endswith(_METADATA):
            yield full
