"""Templates, and the headers under which pages are sent: no script, style or frame but the registry's own."""

import functools
import hashlib
import threading
import unicodedata
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from lottapack.limits import size_text

_T = TypeVar("_T")
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
    "Vary": "Accept, Authorization, Cookie",
}
"""The headers of each page."""


def accepts_page(scope: Scope) -> bool:
    """Return whether the client names HTML among what it accepts, as browsers do and API clients do not."""
    accepted = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1").lower()
    for form in accepted.split(","):
        kind, *parameters = (part.replace(" ", "") for part in form.split(";"))
        if kind == "text/html":
            return not any(part.startswith("q=0") and not part.strip("q=0.") for part in parameters)
    return False


class PageRoute(Route):
    """A route for browsers only: other clients get what they would get without it."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether the route takes a request."""
        is_asked = scope["method"] in ("GET", "HEAD") and not scope["path"].startswith("/api/") and accepts_page(scope)
        return super().matches(scope) if is_asked else (Match.NONE, {})


def visible(text: object, most: int = 300) -> str:
    """Return a stranger's text, with the codes of characters that would hide or reorder others."""
    shown = "".join(
        character if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else _code(character)
        for character in str(text)[:most]
    )
    return shown + ("…" if len(str(text)) > most else "")


def _code(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) < 2**16 else f"\\U{ord(character):08x}"


def own_address(address: str) -> str:
    """Return the address of a page of this registry, or that of the first one for what may lead elsewhere."""
    plain = address.startswith("/") and not address.startswith("//") and address.isascii() and address.isprintable()
    return address if plain and "\\" not in address else "/"


def moment(date: str) -> str:
    """Return an ISO time in UTC, to the minute."""
    return f"{date[:10]} {date[11:16]}"


def segment(text: str) -> str:
    """Return a name as one part of an address."""
    return quote(text, safe="")


@functools.cache
def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).with_name("templates"))
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"visible": visible, "size": size_text, "moment": moment, "segment": segment, "path": quote}
    return made


def fragment(template: str, **values: Any) -> Markup:
    """Return a template as HTML; every value is escaped in it."""
    return Markup(_environment().get_template(template).render(values))


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """Return a page, or 304 if the client has it."""
    body = fragment(template, address=str(request.base_url).rstrip("/"), **values).encode("utf-8", "replace")
    headers = {**HEADERS, "ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"'}
    if status == 200 and headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, status, headers, "text/html")


class Cache(Generic[_T]):
    """What pages need, by what it follows from, so that none is made twice: ``most`` in all, in units of ``size``."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._parts: OrderedDict[tuple[str, ...], tuple[_T, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, ...]) -> _T | None:
        """Return a part, or None."""
        with self._lock:
            if key not in self._parts:
                return None
            self._parts.move_to_end(key)
            return self._parts[key][0]

    def put(self, key: tuple[str, ...], part: _T, size: int = 1) -> None:
        """Keep a part, and forget those that were not used for the longest time."""
        with self._lock:
            self._size += size - self._parts.pop(key, (part, 0))[1]
            self._parts[key] = part, size
            while self._size > self._most and self._parts:
                self._size -= self._parts.popitem(last=False)[1][1]
