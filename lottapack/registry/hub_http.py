"""Requests to a Hub, each with limits of size and time, and the token for the Hub's own host only.

The connection is huggingface_hub's, with its proxies and certificates. This module controls what that leaves open:
redirects, compression, waits and sizes.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from huggingface_hub import constants
from huggingface_hub.utils import build_hf_headers, get_session  # type: ignore[attr-defined]  # its documented location

from lottapack.errors import AccessError, NetworkError, RegistryError
from lottapack.registry import answers, hub_server
from lottapack.registry.downloading import Body
from lottapack.registry.hub_errors import Refused

_log = logging.getLogger(__name__)

LIBRARY = "lottapack"
"""Our name for servers."""
OWN = "lottapack"
"""Marks the extensions of requests that are made here."""

_CONNECT, _SILENCE = 20, 60
"""Seconds to connect, and without a byte. (The client itself would wait forever.)"""
_ATTEMPTS = 5
"""How many times a server may ask to come back later."""
_MAX_ERROR, _MAX_LIST = 64 << 10, 128 << 20
_lock = threading.Lock()
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
    with _opened(url, None, asked, what) as (response, patience):
        yield Body(response.status_code, dict(response.headers.items()), _renewing(response.iter_raw(), patience))


def _renewing(chunks: Iterator[bytes], patience: answers.Patience) -> Iterator[bytes]:
    for chunk in chunks:
        patience.renew()
        yield chunk


def _get(url: str, params: Mapping[str, str] | None, what: str) -> tuple[bytes, str | None]:
    """Return the content of an answer, and the address of the next page."""
    with _opened(url, params, {}, what) as (response, _):
        content = answers.collect(response.iter_raw(), answers.MAX_ANSWER, what)
        return content, response.links.get("next", {}).get("url")


def _decoded(content: bytes, kind: type[_Answer], what: str) -> _Answer:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as fault:
        hint = "Check that HF_ENDPOINT names a Hub."
        raise RegistryError(
            f"{what}: {hub_server.endpoint()} does not answer like a Hub: {fault}", hint=hint
        ) from fault


@contextmanager
def _opened(
    url: str, params: Mapping[str, str] | None, asked: Mapping[str, str], what: str
) -> Iterator[tuple[Any, answers.Patience]]:
    """Open the successful answer to GET, following redirects and waiting for a busy server. Raises RegistryError."""
    headers = {**_identity(), **asked, "Accept-Encoding": "identity"}
    told = headers.get("authorization", "")
    if not (told.isascii() and told.isprintable()):
        hint = "Log in again with: hf auth login    (or correct HF_TOKEN)."
        raise AccessError(f"{what}: the token for {hub_server.endpoint()} has characters that no token has", hint=hint)
    answers.conceal(told)
    _log.debug("asking %s", answers.printable(url, 500))
    home, redirects, busy = answers.origin(url), 0, 0
    while redirects <= answers.MAX_REDIRECTS:
        patience = answers.Patience(_SILENCE)
        limits = (_CONNECT, patience, _SILENCE, _CONNECT)  # to connect, to read, to send, for a free connection
        options: dict[str, Any] = {"follow_redirects": False, "timeout": limits, "extensions": {OWN: True}}
        with session().stream("GET", url, params=params, headers=headers, **options) as response:
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
                yield response, patience
                return
        busy += 1
        _log.warning("%s: the server is busy; asking again in %g s", what, wait)
        _pause(wait)
    raise RegistryError(f"{what}: more than {answers.MAX_REDIRECTS} redirects", hint=answers.DISTRUST)


def session() -> Any:
    """Return the client's connections. Raises NetworkError for invalid proxies or certificates of the environment."""
    try:
        return get_session()
    except (OSError, ValueError, ImportError) as fault:
        words = answers.without_number(answers.printable(str(fault), 300)) or type(fault).__name__
        raise NetworkError(
            f"cannot connect to {hub_server.endpoint()} with the proxies and certificates of this environment: {words}",
            hint="Check SSL_CERT_FILE, SSL_CERT_DIR, HTTPS_PROXY, HTTP_PROXY and ALL_PROXY.",
        ) from fault


def _identity() -> dict[str, str]:
    """Return the headers that say who asks: the client's, without those for which it would ask the server itself.

    For its telemetry the client fetches a list from the server, once a day and without our limits.
    """
    with _lock:  # else two threads could leave it on
        before, constants.HF_HUB_DISABLE_TELEMETRY = constants.HF_HUB_DISABLE_TELEMETRY, True
        try:
            return dict(build_hf_headers(token=hub_server.token(), library_name=LIBRARY))
        finally:
            constants.HF_HUB_DISABLE_TELEMETRY = before


def _check(response: Any, what: str) -> None:
    """Raise the error of a status, and refuse answers that cannot be read within limits."""
    if response.status_code not in (200, 206, 416):
        content = bytearray()
        for chunk in () if answers.coding_of(response.headers) else response.iter_raw():
            content += chunk
            if len(content) > _MAX_ERROR:
                break
        raise Refused(response.status_code, response.headers, bytes(content))
    answers.refuse_compressed(response.headers, what)


def _pause(seconds: float) -> None:
    time.sleep(seconds)
