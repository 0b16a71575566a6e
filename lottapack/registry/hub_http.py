"""Requests to a Hub, each with limits of size and time, and the token for the Hub's own host only.

The connection is huggingface_hub's, with its proxies and certificates. This module controls what that leaves open:
redirects, compression (not requested, so that a small answer cannot become a large one), waits and sizes.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from huggingface_hub.utils import build_hf_headers, get_session  # type: ignore[attr-defined]  # its documented location

from lottapack.errors import NetworkError, RegistryError
from lottapack.registry import answers, hub_server
from lottapack.registry.downloading import Body
from lottapack.registry.hub_errors import Refused

_log = logging.getLogger(__name__)

LIBRARY = "lottapack"
"""Our name for servers."""
OWN = "lottapack"
"""Marks the extensions of requests that are made here."""

_TIMEOUT = (20.0, 60.0, 60.0, 20.0)
"""Seconds to connect, without a byte of an answer, to send one, and for a free connection. (The client itself would
wait forever.)"""
_ATTEMPTS = 5
"""How many times a server may ask to come back later."""
_MAX_ERROR, _MAX_LIST = 64 << 10, 128 << 20
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_Answer = TypeVar("_Answer")


def get(path: str, kind: type[_Answer], what: str, params: Mapping[str, str] | None = None) -> _Answer:
    """Return the answer to a request as a record of that type. Raises RegistryError for an invalid answer."""
    return _decoded(_get(hub_server.endpoint() + path, params, what)[0], kind, what)


def pages(path: str, kind: type[_Answer], what: str, params: Mapping[str, str] | None = None) -> Iterator[_Answer]:
    """Yield the pages of a list, at most MAX_PAGES. Raises the errors of get()."""
    url: str | None = hub_server.endpoint() + path
    total = 0
    for _ in range(answers.MAX_PAGES):
        if url is None:
            return
        content, more = _get(url, params, what)
        total += len(content)
        if total > _MAX_LIST:
            raise RegistryError(f"{what}: the list has more than {_MAX_LIST:,} bytes", hint=answers.DISTRUST)
        yield _decoded(content, kind, what)
        url, params = answers.next_page(url, more, what), None
    if url is not None:
        raise RegistryError(f"{what}: the list has more than {answers.MAX_PAGES} pages", hint=answers.DISTRUST)


@contextmanager
def file(repo: str, commit: str, name: str, what: str, start: int) -> Iterator[Body]:
    """Open a file of a repository as a stream, from ``start`` on if the Hub supports it (see Body)."""
    url = f"{hub_server.endpoint()}/{repo}/resolve/{commit}/{quote(name)}"
    # 416 is a valid answer too: the local file is longer than the Hub's.
    asked = {"Range": f"bytes={start}-"} if start else {}
    with _opened(url, None, asked, what) as response:
        yield Body(response.status_code, dict(response.headers.items()), response.iter_raw())


def _get(url: str, params: Mapping[str, str] | None, what: str) -> tuple[bytes, str | None]:
    """Return the content of an answer, and the address of the next page."""
    with _opened(url, params, {}, what) as response:
        content = answers.collect(_timely(response.iter_raw(), what), answers.MAX_ANSWER, what)
        return content, response.links.get("next", {}).get("url")


def _timely(chunks: Iterator[bytes], what: str) -> Iterator[bytes]:
    end = time.monotonic() + answers.ANSWER_SECONDS
    for chunk in chunks:
        if time.monotonic() > end:
            hint = "Check the network, then run the same command again."
            raise NetworkError(f"{what}: the answer takes more than {answers.ANSWER_SECONDS} seconds", hint=hint)
        yield chunk


def _decoded(content: bytes, kind: type[_Answer], what: str) -> _Answer:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as fault:
        hint = "Check that HF_ENDPOINT names a Hub."
        raise RegistryError(
            f"{what}: {hub_server.endpoint()} does not answer like a Hub: {fault}", hint=hint
        ) from fault


@contextmanager
def _opened(url: str, params: Mapping[str, str] | None, asked: Mapping[str, str], what: str) -> Iterator[Any]:
    """Open the successful answer to GET, following redirects and waiting for a busy server. Raises RegistryError."""
    headers = {
        **build_hf_headers(token=hub_server.token(), library_name=LIBRARY),
        **asked,
        "Accept-Encoding": "identity",
    }
    _log.debug("asking %s", url)
    home, redirects, busy = answers.origin(url), 0, 0
    while redirects <= answers.MAX_REDIRECTS:
        options: dict[str, Any] = {"follow_redirects": False, "timeout": _TIMEOUT, "extensions": {OWN: True}}
        with get_session().stream("GET", url, params=params, headers=headers, **options) as response:
            status = response.status_code
            if status in _REDIRECTS and "Location" in response.headers:
                redirects += 1
                url, params = answers.follow(str(response.url), response.headers["Location"], what), None
                if answers.origin(url) != home:
                    headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
                continue
            wait = answers.asked_wait(response.headers) if status in _BUSY else None
            if wait is None or wait > answers.MAX_WAIT or busy == _ATTEMPTS:
                _check(response, what)
                yield response
                return
        busy += 1
        _log.warning("%s: the server is busy; asking again in %g s", what, wait)
        _pause(wait)
    raise RegistryError(f"{what}: more than {answers.MAX_REDIRECTS} redirects", hint=answers.DISTRUST)


def _check(response: Any, what: str) -> None:
    """Raise the error of a status, and refuse answers that cannot be read within limits."""
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if response.status_code not in (200, 206, 416):
        content = bytearray()
        for chunk in _timely(response.iter_raw(), what) if coding == "identity" else ():
            content += chunk
            if len(content) > _MAX_ERROR:
                break
        raise Refused(response.status_code, response.headers, bytes(content))
    if coding != "identity":
        shown, hint = answers.printable(coding, 40), answers.DISTRUST
        raise RegistryError(f"{what}: the answer is compressed ({shown}) without request", hint=hint)


def _pause(seconds: float) -> None:
    time.sleep(seconds)
