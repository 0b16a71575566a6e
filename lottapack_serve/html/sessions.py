"""Sessions of browsers: a random name in a cookie stands for a token, and only lets its holder read.

The cookie does not hold the token itself, because browsers send cookies to every port of a host. Sessions live in
memory: they end with the server, with the token that opened them, and after some hours.
"""

import secrets
import threading
import time
from collections import OrderedDict

COOKIE = "lottapack_session"
SECONDS = 12 * 3600
"""The seconds after which a session ends."""
_MOST = 1000


class Sessions:
    """The open sessions, each with the SHA-256 of its token. Beyond 1,000 the oldest ends."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, digest: str) -> str:
        """Open a session for the token with that SHA-256, and return its name."""
        name = secrets.token_urlsafe(32)
        with self._lock:
            self._open[name] = (digest, time.monotonic() + SECONDS)
            while len(self._open) > _MOST:
                self._open.popitem(last=False)
        return name

    def token(self, name: str) -> str | None:
        """Return the SHA-256 of a session's token, or None if the session has ended."""
        with self._lock:
            digest, until = self._open.get(name, ("", 0.0))
            return digest if time.monotonic() < until else None

    def end(self, name: str) -> None:
        """End a session."""
        with self._lock:
            self._open.pop(name, None)
