"""A TCP proxy that breaks or holds connections after a number of bytes."""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Literal

Way = Literal["down", "up"]


class Proxy:
    """A context manager between a client and a server on loopback.

    ``after(way, count, then)``: when that many bytes went ``down`` (to the client) or ``up``, all connections are cut
    and new ones closed at once, until ``heal()``. ``then`` is called at that moment; with ``hold=True`` nothing is
    cut: what is on the way waits for ``heal()``.
    """

    def __init__(self, url: str) -> None:
        self._upstream = int(url.rpartition(":")[2])
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self.passed: dict[Way, int] = {"down": 0, "up": 0}
        self._limit: tuple[Way, int] | None = None
        self._then: Callable[[], object] = lambda: None
        self._hold = False
        self._healthy = threading.Event()
        self._healthy.set()
        self.broken = threading.Event()

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._cut()  # first, so that nothing that was held back arrives after all
        self.heal()

    def after(self, way: Way, count: int, then: Callable[[], object] = lambda: None, *, hold: bool = False) -> None:
        """Break when ``count`` more bytes went that way."""
        self._then, self._hold = then, hold
        self._limit = (way, self.passed[way] + count)

    def heal(self) -> None:
        """Forward everything again."""
        self._limit = None
        self.broken.clear()
        self._healthy.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                if self.broken.is_set() and not self._hold:
                    client.close()
                    continue
                try:
                    server = socket.create_connection(("127.0.0.1", self._upstream), timeout=300)
                except OSError:
                    client.close()
                    continue
                self._sockets |= {client, server}
                for way, source, target in (("up", client, server), ("down", server, client)):
                    threading.Thread(target=self._pump, args=(way, source, target), daemon=True).start()

    def _pump(self, way: Way, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._pass(way, data, target)
            target.shutdown(socket.SHUT_WR)

    def _pass(self, way: Way, data: bytes, target: socket.socket) -> None:
        with self._lock:
            limited = self._limit is not None and self._limit[0] == way
            room = self._limit[1] - self.passed[way] if self._limit and limited else len(data)
            now, later = data[: max(room, 0)], data[max(room, 0) :]
            self.passed[way] += len(now)
            breaks = bool(later) and not self.broken.is_set()
            if breaks:
                self._healthy.clear()
        target.sendall(now)
        if breaks:
            self.broken.set()
            self._then()
            if not self._hold:
                self._cut()
        if later:
            self._healthy.wait(60)
            target.sendall(later)
            with self._lock:
                self.passed[way] += len(later)

    def _cut(self) -> None:
        for one in list(self._sockets):
            self._sockets.discard(one)
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
