"""Limit the requests that huggingface_hub makes by itself while it creates a commit for us.

Its client is shared by the whole process, so only our requests are watched: those with our User-Agent, and uploads
while a push is running.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import constants
from huggingface_hub.utils import _http

from lottapack.errors import NetworkError, RegistryError
from lottapack.registry import answers
from lottapack.registry.hub_errors import HTTP_ERROR
from lottapack.registry.hub_http import LIBRARY, OWN, session

_CONNECT, _READ = 20, 600
"""Seconds to connect, and for an answer of a registry that must first store what it was sent."""
_DAILY = "/api/agent-harnesses"
"""What the client asks a server for by itself, once a day."""
_library = sys.modules[HTTP_ERROR.__module__.partition(".")[0]]
_lock, _pushes = threading.Lock(), 0


@contextmanager
def guarded() -> Iterator[None]:
    """Watch the client's requests while the block runs, even if a new client is created meanwhile."""
    global _pushes
    made = getattr(_http, "_GLOBAL_CLIENT_FACTORY", None)
    if made is not None and not isinstance(made, _Factory):
        _http._GLOBAL_CLIENT_FACTORY = _Factory(made)
    _watch(session())
    with _lock:
        _pushes += 1
    try:
        yield
    finally:
        with _lock:
            _pushes -= 1


class _Factory:
    """Creates clients as before, and watches them."""

    def __init__(self, made: Any) -> None:
        self._made = made

    def __call__(self) -> Any:
        return _watch(self._made())


def _watch(client: Any) -> Any:
    hooks = client.event_hooks
    if _before not in hooks["request"]:
        client.event_hooks = {"request": [*hooks["request"], _before], "response": [*hooks["response"], _after]}
    return client


def _is_ours(request: Any) -> bool:
    """Return whether huggingface_hub makes this request for us. Uploads do not show their origin."""
    if OWN in request.extensions or not _pushes:
        return False
    named = str(request.headers.get("User-Agent", "")).startswith(f"{LIBRARY}/")
    return named or request.method == "PUT" or request.url.path.endswith(_DAILY)


def _before(request: Any) -> None:
    """Disable compression and endless waits, keep the token on the Hub's host, and refuse plain HTTP after HTTPS."""
    if not _is_ours(request):
        return
    answers.conceal(request.headers.get("Authorization", ""))
    request.headers["Accept-Encoding"] = "identity"
    patience = answers.Patience(_READ, _READ)
    request.extensions["timeout"] = {"connect": _CONNECT, "read": patience, "write": _READ, "pool": _CONNECT}
    url = answers.follow(constants.ENDPOINT, str(request.url), constants.ENDPOINT)
    if answers.origin(url) != answers.origin(constants.ENDPOINT) and "Authorization" in request.headers:
        del request.headers["Authorization"]


def _after(response: Any) -> None:
    """Refuse compressed answers and endless waits, and limit what is read."""
    if not _is_ours(response.request):
        return
    answers.refuse_compressed(response.headers, constants.ENDPOINT)
    wait = answers.asked_wait(response.headers)
    if wait is not None and wait > answers.MAX_WAIT:
        hint = "Try again later. Nothing was changed."
        raise NetworkError(f"{constants.ENDPOINT} asks to wait for {wait:.0f} seconds", hint=hint)
    response.stream = _Bounded(response.stream)


class _Bounded(_library.SyncByteStream):  # type: ignore[misc, name-defined]  # from the HTTP library that it uses
    """The bytes of an answer, at most MAX_ANSWER of them within ANSWER_SECONDS."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        count, end = 0, time.monotonic() + answers.ANSWER_SECONDS
        for chunk in self._stream:
            count += len(chunk)
            if count > answers.MAX_ANSWER or time.monotonic() > end:
                raise RegistryError(f"{constants.ENDPOINT}: an answer does not end", hint=answers.DISTRUST)
            yield chunk

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()
