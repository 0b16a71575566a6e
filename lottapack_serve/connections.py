"""Limit connections: their number, and how long each may keep the server waiting.

uvicorn does not limit the time for the head of a request or for a client that does not read its answer, and every
connection takes a file descriptor. Limits for bodies are in ``traffic.py``.
"""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD = 30.0
"""The seconds for the head of a request, from the beginning of the connection or the last answer."""

ANSWER = 120.0
"""The seconds in which a client must take a piece of an answer, at most one MiB."""

_UNREAD = 5.0
"""The seconds for which a client may continue to send a body after the answer."""

_TICK = 0.5
_FULL = b"The registry has too many connections. Try again later."
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    b"Retry-After: 5\r\nContent-Length: %d\r\n\r\n%s" % (len(_FULL), _FULL)
)


@dataclass(frozen=True, slots=True)
class Capacity:
    """The limits from the process's file descriptors: connections, threads that serve them, waiting connections."""

    connections: int
    threads: int
    backlog: int

    @classmethod
    def of_process(cls) -> "Capacity":
        """Compute it.

        A thread needs up to four descriptors (the index, a file), a connection two, a waiting one one.
        """
        free = _free_descriptors()
        backlog = min(max(free // 10, 2), 128)
        threads = min(max(free // 16, 2), 40)
        connections = min(max((free - 4 * threads - 3 * backlog) // 2, 1), 1000)
        return cls(connections, threads, backlog)


def _free_descriptors() -> int:
    if sys.platform == "win32":
        return 2**15
    import resource

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    taken = len(os.listdir("/dev/fd")) if Path("/dev/fd").is_dir() else 32  # noqa: PTH208 - numbers, not paths
    return (2**15 if most == resource.RLIM_INFINITY else most) - taken


class Connection(H11Protocol):
    """uvicorn's connection with limits. Beyond ``capacity.connections``, the one that has waited longest is closed."""

    def __init__(self, capacity: Capacity, **known: Any) -> None:
        super().__init__(**known)
        self._most = capacity.connections
        self._idle_since = self._slow_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Handle a new client."""
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self.loop.call_later(_TICK, self._check)
        self._make_room()

    def pause_writing(self) -> None:
        """Note that the client takes less than it is sent."""
        self._slow_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that the client has taken what it was sent."""
        self._slow_since = 0.0
        super().resume_writing()

    @property
    def _is_idle(self) -> bool:
        """Whether no request is in progress: its head has not arrived, or its answer was handed on."""
        return self.cycle is None or self.cycle.response_complete

    def _make_room(self) -> None:
        """Close the connection that has waited longest if there are too many; this one if no other waits."""
        alive = [one for one in self.connections if isinstance(one, Connection) and not one.transport.is_closing()]
        if len(alive) <= self._most:
            return
        idle = [one for one in alive if one._is_idle and one is not self]
        if idle:
            min(idle, key=lambda connection: connection._idle_since).transport.abort()
        else:
            self.transport.write(_REFUSAL)
            self.transport.close()

    def _check(self) -> None:
        """Close the connection if it takes too long. Runs every half second."""
        if self not in self.connections:
            return
        now = self.loop.time()
        if not self._is_idle:
            self._idle_since = now
        if self.transport.get_write_buffer_size():
            limit = ANSWER  # the rest of an answer is being sent
        else:
            limit = _UNREAD if self.conn.their_state is h11.SEND_BODY else HEAD
        if now - self._idle_since > limit or (self._slow_since and now - self._slow_since > ANSWER):
            self.transport.abort()
            return
        self.loop.call_later(_TICK, self._check)
