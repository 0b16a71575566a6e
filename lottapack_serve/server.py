"""The server: its socket, its start and its end."""

import functools
import os
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import cast

import anyio
import uvicorn

from lottapack.errors import AccessError, NetworkError
from lottapack.files.paths import path_of
from lottapack_serve import tokens
from lottapack_serve.access import is_loopback
from lottapack_serve.app import application
from lottapack_serve.connections import Capacity, Connection
from lottapack_serve.database import FILE
from lottapack_serve.limits import Limits
from lottapack_serve.registry import Rules, opened
from lottapack_serve.traffic import Log

_GRACE = 5
"""The seconds for running requests to end when the server is stopped."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server in this process. ``url`` is the value for HF_ENDPOINT."""

    url: str
    root: Path

    def token(self, name: str, rights: str = "read") -> str:
        """Create a token; from the first one on, writing needs one."""
        return tokens.add(self.root, name, rights)


def run(
    root: str | PathLike[str],
    host: str = "127.0.0.1",
    port: int = 8780,
    *,
    anonymous_read: bool = True,
    hosts: Collection[str] = (),
    limits: Limits | None = None,
    log: Log | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the registry in a folder until a signal ends it. ``ready`` is called with the address.

    ``hosts``: names of this host, besides the loopback's, to which requests may be addressed. Without any, every
    name is served once there are tokens, and only the loopback's until then.

    Raises AccessError if others could write without tokens; OutputError, NetworkError.
    """
    folder = path_of(root, "root")
    with _prepared(folder, host, port, anonymous_read, hosts, limits, log) as (server, listening, url):
        if ready:
            ready(url)
        server.run([listening])


@contextmanager
def background(
    root: str | PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    anonymous_read: bool = True,
    hosts: Collection[str] = (),
    limits: Limits | None = None,
    log: Log | None = None,
) -> Iterator[Running]:
    """Serve the registry in a folder from a thread of this process, while the block runs."""
    folder = path_of(root, "root")
    with _prepared(folder, host, port, anonymous_read, hosts, limits, log) as (server, listening, url):
        thread = threading.Thread(target=server.run, args=([listening],), name="lottapack-serve", daemon=True)
        thread.start()
        try:
            yield Running(url, folder)
        finally:
            server.should_exit = True
            thread.join()


class _Server(uvicorn.Server):
    """uvicorn's server, with as many threads as the process's file descriptors allow."""

    def __init__(self, config: uvicorn.Config, capacity: Capacity) -> None:
        super().__init__(config)
        self._capacity = capacity

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        anyio.to_thread.current_default_thread_limiter().total_tokens = self._capacity.threads
        await super().startup(sockets)


@contextmanager
def _prepared(
    root: Path,
    host: str,
    port: int,
    anonymous_read: bool,
    hosts: Collection[str],
    limits: Limits | None,
    log: Log | None,
) -> Iterator[tuple[uvicorn.Server, socket.socket, str]]:
    loopback = is_loopback(host)
    if not loopback and not ((root / FILE).exists() and tokens.listed(root)):
        raise AccessError(
            f"other machines can reach {host}, and the registry in {root} does not have tokens, so that anyone could "
            "write to it",
            hint=f"Create a token first: lottapack serve token add NAME --write --root {root}",
        )
    names = frozenset(host.lower() for host in hosts)
    rules = Rules(anonymous_read=anonymous_read, open_while_no_tokens=loopback, hosts=names)
    with opened(root, limits=limits or Limits(), rules=rules) as registry, _listening(host, port) as listening:
        capacity = Capacity.of_process()
        config = uvicorn.Config(
            application(registry, log),
            http=cast("type[Connection]", functools.partial(Connection, capacity)),
            backlog=capacity.backlog,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        )
        shown = f"[{host}]" if ":" in host else host
        yield _Server(config, capacity), listening, f"http://{shown}:{listening.getsockname()[1]}"


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, port), family=family, backlog=128)
    except OSError as fault:
        raise NetworkError(
            f"cannot listen on {host}, port {port}: {os.strerror(fault.errno) if fault.errno else fault}",
            hint="Another server may use it. Choose another port, or 0 for any free one.",
        ) from fault
    with made:
        # Connections inherit this. Without it, the second part of an answer waits 40 ms for the client's
        # acknowledgement.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield made
