"""A proxy between client and registry that counts bytes and requests, and cuts connections on demand."""

import contextlib
import re
import socket
import threading
from collections import deque

_REQUEST = re.compile(rb"^([A-Z]+ /v2/\S*) HTTP/1\.1\r$", re.MULTILINE)


class Proxy:
    """Forwards TCP to a port of this machine.

    Attributes:
        up, down: bytes from and to the client so far. requests: their first lines.
        cut_up, cut_down: bytes until the next cuts, one number a cut.
    """

    def __init__(self, host: str) -> None:
        self._target = ("127.0.0.1", int(host.rpartition(":")[2]))
        self.cut_up: deque[int] = deque()
        self.cut_down: deque[int] = deque()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.reset()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def reset(self) -> None:
        """Count from zero."""
        self.up = self.down = 0
        self.requests: list[str] = []

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, timeout=300)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._sockets |= {client, server}
            self._start(self._serve, client, server)

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        up = threading.Thread(target=self._pump, args=(client, server, True), daemon=True)
        up.start()
        self._pump(server, client, False)
        up.join()
        with self._lock:
            self._sockets -= {client, server}
        client.close()
        server.close()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        cuts = self.cut_up if up else self.cut_down
        try:
            while data := source.recv(65536):
                with self._lock:
                    cut = bool(cuts) and cuts[0] <= len(data)
                    if cut:
                        data = data[: cuts.popleft()]
                    elif cuts:
                        cuts[0] -= len(data)
                    if up:
                        self.up += len(data)
                        self.requests += [line.decode() for line in _REQUEST.findall(data)]
                    else:
                        self.down += len(data)
                sink.sendall(data)
                if cut:
                    break
        except OSError:
            pass
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
