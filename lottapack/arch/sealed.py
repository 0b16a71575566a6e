"""No network while a library builds what a pack's configuration says.

Libraries look names up that a configuration holds, and ask a server for them: a stranger's pack could have a caller's
machine, with the caller's token, talk to whom it likes. Rules on keys are one wall (spec: architectures, section 2);
this is the second.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from lottapack.errors import ArchitectureError

_EVENTS = frozenset({"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"})
_thread = threading.local()


@contextmanager
def sealed() -> Iterator[None]:
    """While this lasts, this thread reaches no other machine: the attempt raises ArchitectureError.

    Also where the library makes another error of it.
    """
    _install()
    before = getattr(_thread, "sealed", False)
    _thread.sealed, _thread.tried = True, False
    try:
        yield
    except Exception as fault:
        if _thread.tried and not isinstance(fault, ArchitectureError):
            raise _refusal() from fault
        raise
    finally:
        _thread.sealed = before


@cache
def _install() -> None:
    """Audit hooks cannot be removed, so there is one, from the first use on."""
    sys.addaudithook(_hook)


def _hook(event: str, _: tuple[Any, ...]) -> None:
    if event in _EVENTS and getattr(_thread, "sealed", False):
        _thread.tried = True
        raise _refusal()


def _refusal() -> ArchitectureError:
    return ArchitectureError(
        "building this architecture would use the network",
        hint="Its configuration names something that its library would download. Do not use the pack.",
    )
