"""How bytes go to an OCI registry: time limits, encryption beyond this machine, and files as streams."""

import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

CHUNK = 1 << 20
"""Bytes that are read or sent at once."""

_CONNECT, _READ = 20, 60
_WRITE = 600
"""Seconds: to connect or between two pieces sent; without a byte of an answer; and for that of a registry that must
first put away what it was sent."""


def is_loopback(host: str | None) -> bool:
    """Whether a host name, without port, is this machine by name."""
    if host is None or host == "localhost":
        return host is not None
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Transport(HTTPAdapter):
    """Time limits for every request, and no plain HTTP beyond this machine."""

    def __init__(self, plain: bool) -> None:
        super().__init__()
        self._plain = plain

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Send one request."""
        url = urlsplit(str(request.url))
        if url.scheme != "https" and not (self._plain and is_loopback(url.hostname)):
            raise requests.exceptions.InvalidSchema(f"it leads to {url.netloc} without encryption")
        options["timeout"] = (_CONNECT, _WRITE if request.method == "PUT" else _READ)
        return super().send(request, *args, **options)


class FileBody:
    """A file as the body of a request: read piece by piece, from the start each time it is sent."""

    def __init__(self, path: Path, size: int, advance: Callable[[int], None] | None) -> None:
        self._path, self._size, self._advance = path, size, advance

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            done = 0
            while chunk := file.read(min(CHUNK, self._size - done)):
                yield chunk
                done += len(chunk)
                if self._advance:
                    self._advance(done)
