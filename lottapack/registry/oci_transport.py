"""Exchange bytes with an OCI registry: within limits of time and size, and encrypted beyond this machine."""

import http.client
import io
import ipaddress
from collections.abc import Callable, Iterator
from operator import index
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from lottapack.errors import RegistryError
from lottapack.registry import answers

CHUNK = 1 << 20
"""The bytes that are read or sent at a time."""

_CONNECT, _READ = 20, 60
_WRITE = 600
"""Seconds to connect or between two pieces sent; without a byte of an answer; and for the answer of a registry that
must first store what it was sent."""


def is_loopback(host: str | None) -> bool:
    """Return whether a host name, without port, is this machine."""
    if host is None or host == "localhost":
        return host is not None
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class UnencryptedError(requests.exceptions.InvalidSchema):
    """A request would leave this machine without encryption."""


class _Reading(io.RawIOBase):
    """A socket's bytes, as long as there is patience for them."""

    def __init__(self, raw: io.RawIOBase, patience: answers.Patience) -> None:
        self._raw, self._patience = raw, patience

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read once, within the socket's own time limit. Raises TimeoutError if the answer has taken too long."""
        index(self._patience)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Close the socket's file."""
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer whose head and body end within the time for all of it, unless ``patience`` is renewed."""

    def __init__(self, connection: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(connection, *arguments, **options)
        self.patience = answers.Patience(_READ, _WRITE if options.get("method") == "PUT" else None)
        self.fp = io.BufferedReader(_Reading(self.fp.detach(), self.patience))


class _Plain(HTTPConnection):
    response_class = _Response


class _Encrypted(HTTPSConnection):
    response_class = _Response


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Plain


class _EncryptedPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Encrypted


_POOLS = {"http": _PlainPool, "https": _EncryptedPool}


class Transport(HTTPAdapter):
    """Sets time limits for every request, and refuses plain HTTP beyond this machine."""

    def __init__(self, plain: bool) -> None:
        super().__init__()
        self._plain = plain
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Return the manager of connections through a proxy."""
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Send one request."""
        url = urlsplit(str(request.url))
        if url.scheme != "https" and not (self._plain and is_loopback(url.hostname)):
            raise UnencryptedError(f"it leads to {url.netloc} without encryption")
        options["timeout"] = (_CONNECT, _WRITE if request.method == "PUT" else _READ)
        return super().send(request, *args, **options)


_DRAIN = 64 << 10
_REDIRECTS, _SAME_METHOD = frozenset({301, 302, 303, 307, 308}), frozenset({307, 308})


def exchange(session: requests.Session, method: str, url: str, what: str, **options: Any) -> requests.Response:
    """Send a request and follow redirects; the answer's content is not read yet. Raises RegistryError.

    ``session.auth`` decides for each address whether credentials are sent.
    """
    headers = {**(options.pop("headers", None) or {}), "Accept-Encoding": "identity"}
    for _ in range(answers.MAX_REDIRECTS):
        response = session.request(method, url, headers=headers, stream=True, allow_redirects=False, **options)
        if "Location" in response.headers and (
            response.status_code in _SAME_METHOD or (response.status_code in _REDIRECTS and method in ("GET", "HEAD"))
        ):
            with response:
                url = answers.follow(url, response.headers["Location"], what)
            options.pop("params", None)
            continue
        return response
    raise RegistryError(f"{what}: more than {answers.MAX_REDIRECTS} redirects", hint=answers.DISTRUST)


def chunks(response: requests.Response, what: str, *, is_file: bool = False) -> Iterator[bytes]:
    """Yield an answer's content as it arrives. Raises RegistryError if it is compressed.

    ``is_file``: whether it may take as long as it likes, if something arrives all the time.
    """
    answers.refuse_compressed(response.headers, what)
    read = getattr(response.raw, "read1", response.raw.read)
    answer = response.raw._original_response  # as requests itself knows it; None from another adapter
    try:
        while piece := read(CHUNK):
            if is_file and answer is not None:
                answer.patience.renew()
            yield piece
    except urllib3.exceptions.HTTPError as fault:
        raise requests.exceptions.ConnectionError(fault) from fault


def content(response: requests.Response, most: int, what: str) -> bytes:
    """Return an answer's content, with limits of size and time. Raises RegistryError."""
    return answers.collect(chunks(response, what), most, what)


def drain(response: requests.Response, what: str) -> None:
    """Read the rest of an answer without content, so that the connection can be reused."""
    content(response, _DRAIN, what)


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
