"""Block the network, files and processes while a library builds what a pack's configuration describes.

Libraries look up names in a configuration: they ask a server with the caller's token, or open a local file, which may
be code. Rules on keys are the first defence (spec: architectures, section 2); this is the second.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import cache_from_source
from types import FrameType
from typing import Any, Final

from lottapack.arch import package_folders, trust
from lottapack.errors import ArchitectureError

_NETWORK: Final = "use the network"
_HINT: Final = "Do not use the pack: its configuration names something that its library would load from elsewhere."
_NEVER: Final = {
    **dict.fromkeys(
        (
            "socket.bind",
            "socket.connect",
            "socket.getaddrinfo",
            "socket.gethostbyaddr",
            "socket.gethostbyname",
            "socket.sendmsg",
            "socket.sendto",
        ),
        _NETWORK,
    ),
    **dict.fromkeys(
        (
            "os.exec",
            "os.fork",
            "os.forkpty",
            "os.kill",
            "os.killpg",
            "os.posix_spawn",
            "os.spawn",
            "os.startfile",
            "os.system",
            "pty.spawn",
            "subprocess.Popen",
            "webbrowser.open",
        ),
        "start or end a process",
    ),
    **dict.fromkeys(("_thread.start_new_thread", "_thread.start_joinable_thread"), "start a thread"),
    **dict.fromkeys(("pickle.find_class",), "unpickle an object"),
    **dict.fromkeys(("builtins.input", "builtins.input/result"), "ask for input"),
    "sqlite3.connect": "open a database",
}
"""What a sealed thread may never do, with the words for errors."""

_PROBES: Final = (["ninja", "--version"],)
"""Programs that libraries start to see whether they are installed; here they appear to be missing."""

_CHANGES: Final = frozenset(
    {
        "os.chdir",
        "os.chflags",
        "os.chmod",
        "os.chown",
        "os.link",
        "os.mkdir",
        "os.remove",
        "os.removexattr",
        "os.rename",
        "os.rmdir",
        "os.setxattr",
        "os.symlink",
        "os.truncate",
        "os.utime",
        "shutil.rmtree",
        "tempfile.mkdtemp",
        "tempfile.mkstemp",
    }
)
"""Events that change files; the first argument is the path."""
_LISTS: Final = frozenset({"os.listdir", "os.scandir", "os.walk", "os.fwalk", "glob.glob", "glob.glob/2"})
_EVENTS: Final = frozenset({*_NEVER, *_CHANGES, *_LISTS, "open", "ctypes.dlopen"})
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NEW: Final = os.O_CREAT | os.O_EXCL
_IMPORTING: Final = "<frozen importlib._bootstrap>"
_thread = threading.local()


@contextmanager
def sealed() -> Iterator[None]:
    """Block the network and new processes for this thread, and any file outside of packages, inside this context.

    An attempt raises ArchitectureError. If the library catches that error and goes on, the context raises it at the
    end.
    """
    _install()
    before: tuple[bool, str, set[str]]
    before = getattr(_thread, "sealed", False), getattr(_thread, "tried", ""), getattr(_thread, "made", set())
    _thread.sealed, _thread.tried, _thread.made = True, "", set()
    try:
        yield
    except Exception as fault:
        if _thread.tried and not isinstance(fault, ArchitectureError):
            raise _refusal(_thread.tried) from fault
        raise
    else:
        if _thread.tried:
            raise _refusal(_thread.tried)
    finally:
        _thread.sealed, _thread.tried, _thread.made = before


@contextmanager
def unsealed() -> Iterator[None]:
    """Lift the block for lottapack's own actions inside sealed()."""
    before = getattr(_thread, "sealed", False)
    _thread.sealed = False
    try:
        yield
    finally:
        _thread.sealed = before


@cache
def _install() -> None:
    """Install the one audit hook at the first use; audit hooks cannot be removed."""
    sys.addaudithook(_hook)


def _hook(
    event: str, arguments: tuple[Any, ...], events: frozenset[str] = _EVENTS, thread: threading.local = _thread
) -> None:
    # Python still calls it when a process ends and the names of this module are gone: hence the last two parameters.
    if event in events and getattr(thread, "sealed", False):
        if event == "subprocess.Popen" and (arguments[1] in _PROBES or str(arguments[1]).split() in _PROBES):
            raise FileNotFoundError(arguments[0])
        with unsealed():  # looking at a path may raise events too
            refused = _refused(event, arguments, sys._getframe(1))
        if refused:
            _thread.tried = refused
            raise _refusal(refused)


def _refused(event: str, arguments: tuple[Any, ...], frame: FrameType | None) -> str:
    """Return what the thread tried to do and may not, in words; empty if it may."""
    never = _NEVER.get(event)
    if never == _NETWORK:
        return never
    if importing(frame):  # a configuration does not control what a package does on import
        return ""
    if never:
        return never
    path = _path(arguments[0] if arguments else None)
    if event == "ctypes.dlopen":
        return "" if path is None or package_folders.may_link(path) else f"load the library {path}"
    if path is None:
        return "" if event != "os.listdir" else _unless(package_folders.may_read, os.curdir, "list the folder")
    if event in _LISTS:
        return _unless(package_folders.may_read, path, "list the folder")
    if event == "tempfile.mkstemp" and trust.allows_any() and package_folders.is_temporary(os.path.realpath(path)):
        return ""  # the next event creates the file, if it does not exist
    if event in _CHANGES and trust.allows_any() and _is_own_temporary(path, None):
        return ""
    if event in _CHANGES:
        return _unless(package_folders.may_write, path, "change")
    mode, flags = arguments[1], arguments[2]
    if trust.allows_any() and _is_own_temporary(path, flags):
        return ""
    if set(mode or "") & set("wax+") or (isinstance(flags, int) and flags & _WRITES):
        return _unless(package_folders.may_write, path, "write to")
    return _unless(package_folders.may_read, path, "open the file")


def _is_own_temporary(path: str, flags: Any) -> bool:
    """Return whether this block creates, or created, the file in the system's folder for temporary files.

    torch_geometric writes the code of its layers there and imports it. An existing file cannot be opened in this way.
    """
    full = os.path.realpath(path)
    if not package_folders.is_temporary(full):
        return False
    if isinstance(flags, int) and flags & _NEW == _NEW:
        _thread.made.add(full)
    # tempfile opens the folder itself, with an opener that creates the file; opening a folder for writing has no
    # effect.
    cached = (cache_from_source(made) for made in _thread.made)
    return full in _thread.made or full.startswith(tuple(cached)) or package_folders.is_folder_of_temporaries(full)


def importing(frame: FrameType | None) -> bool:
    """Return whether the code runs because a module is being imported."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTING:
            return True
        frame = frame.f_back
    return False


def _unless(allowed: Callable[[str], bool], path: str, what: str) -> str:
    return "" if allowed(path) else f"{what} {path}"


def _path(given: Any) -> str | None:
    """Return a path as text, or None for a number, which stands for an open file."""
    try:
        return os.fsdecode(given)
    except TypeError:
        return None


def _refusal(what: str) -> ArchitectureError:
    return ArchitectureError(f"building this architecture would {what}", hint=_HINT)
