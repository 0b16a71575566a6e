"""Wrap every request: encoded addresses, unread bodies, caches, and a record of what was served."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lottapack_serve.access import host_name

_PATIENCE = 10.0
"""The seconds for which a refused client may continue to send."""

SILENCE = 60.0
"""A client that sends no byte of a body for this many seconds counts as gone."""

RATE = 1000
"""The least average bytes a second of a body, after the first SILENCE seconds."""


@dataclass(frozen=True, slots=True)
class Served:
    """An answered request: ``received`` and ``sent`` are the bytes of the bodies, ``seconds`` its total time."""

    method: str
    path: str
    status: int
    received: int
    sent: int
    seconds: float


_no_host = JSONResponse(
    {"error": "The request's Host is not valid."}, 400, {"X-Error-Message": "The request's Host is not valid."}
)

Log = Callable[[Served], None]


class Traffic:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, log: Log | None) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Routed while encoded, so that %2F does not end the name of a branch.
        scope = {**scope, "path": scope["raw_path"].decode("latin-1")}
        app = self._app if _has_sound_host(scope) else _no_host
        has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
        begin, received, sent, status, ended = time.perf_counter(), 0, 0, 0, not has_body
        waited = 0.0

        async def receiving() -> Message:
            nonlocal received, ended, waited
            if ended:
                return await receive()
            message: Message = {"type": "http.disconnect"}
            asked = time.perf_counter()
            # Only the client's time counts, not what the registry does meanwhile.
            with anyio.move_on_after(min(SILENCE, SILENCE + received / RATE - waited)):
                message = await receive()
            waited += time.perf_counter() - asked
            received += len(message.get("body", b""))
            ended = ended or not message.get("more_body", False)
            return message

        async def sending(message: Message) -> None:
            nonlocal sent, status
            if message["type"] == "http.response.start":
                status = message["status"]
                _limit_caches(scope, message)
                # Closing the connection while the client still sends could lose the answer.
                with anyio.move_on_after(_PATIENCE):
                    while not ended:
                        await receiving()
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await app(scope, receiving, sending)
        except asyncio.CancelledError:
            # The server is being stopped, and this took longer than it waits.
            ended = True
            if not status:
                answer = JSONResponse({"error": "The registry is being stopped. Try again later."}, 503)
                await answer(scope, receiving, sending)
        finally:
            if self._log:
                seconds = time.perf_counter() - begin
                self._log(Served(scope["method"], scope["path"], status, received, sent, seconds))


def _limit_caches(scope: Scope, message: Message) -> None:
    """Let caches ask again before they use an answer, and shared ones keep none that a token or session opened."""
    headers = MutableHeaders(raw=message["headers"])
    if "cache-control" not in headers:
        is_known = any(name in (b"authorization", b"cookie") for name, _ in scope["headers"])
        headers["Cache-Control"] = "private, no-cache" if is_known else "no-cache"
        headers["Vary"] = "Authorization, Cookie"


def _has_sound_host(scope: Scope) -> bool:
    """Return whether the request's Host, which addresses in answers use, is valid. HTTP/1.0 does not need one."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    return len(hosts) < 2 and all(host_name(value.decode("latin-1")) for value in hosts)
