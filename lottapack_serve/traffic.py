"""What happens around every request: encoded addresses, unread bodies, and a note of what was served."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lottapack_serve.access import host_name

_PATIENCE = 10.0
"""Seconds that a refused client may go on sending."""

SILENCE = 60.0
"""Seconds without a byte of a body after which its client counts as gone."""

RATE = 1000
"""Bytes a second that a body must bring on average, beyond its first SILENCE."""


@dataclass(frozen=True, slots=True)
class Served:
    """A request that was answered: ``received`` and ``sent`` are the bytes of the bodies, ``seconds`` all it took."""

    method: str
    path: str
    status: int
    received: int
    sent: int
    seconds: float


_no_host = JSONResponse(
    {"error": "The request's Host is none."}, 400, {"X-Error-Message": "The request's Host is none."}
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
        # Routed while encoded, so that %2F in the name of a branch does not end it.
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
            # Only what the client takes counts, not what the registry does meanwhile.
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
                # To close a connection while the client still sends would lose the answer on the way.
                with anyio.move_on_after(_PATIENCE):
                    while not ended:
                        await receiving()
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await app(scope, receiving, sending)
        except asyncio.CancelledError:
            # The server is stopped, and this took longer than it waits for.
            ended = True
            if not status:
                answer = JSONResponse({"error": "The registry is being stopped. Try again later."}, 503)
                await answer(scope, receiving, sending)
        finally:
            if self._log:
                seconds = time.perf_counter() - begin
                self._log(Served(scope["method"], scope["path"], status, received, sent, seconds))


def _has_sound_host(scope: Scope) -> bool:
    """Whether the request's Host, from which addresses in answers are made, is one. HTTP/1.0 needs none."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    return len(hosts) < 2 and all(host_name(value.decode("latin-1")) for value in hosts)
