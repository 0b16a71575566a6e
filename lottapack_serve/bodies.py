"""What the endpoints share: parts of the address, small bodies, and paged listings.

Requests become typed values only here: anything invalid is refused with status 400 before an endpoint sees it. A
body is read only after the caller is identified, and parsed outside the event loop.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlencode

import msgspec
from anyio import to_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from lottapack_serve.limits import FORM_FIELDS, PAGE, PAGE_BYTES
from lottapack_serve.refusals import bad_request, too_large
from lottapack_serve.registry import Registry

_T = TypeVar("_T", bound=msgspec.Struct)
_DIGITS = re.compile(r"-?[0-9]{1,18}", re.ASCII)


def registry_of(request: Request) -> Registry:
    """Return the registry that the application serves."""
    registry = request.app.state.registry
    assert isinstance(registry, Registry)
    return registry


def part(request: Request, name: str) -> str:
    """Return a decoded part of the address.

    Parts are routed while encoded, because a branch's name may have a slash.
    """
    try:
        return unquote(request.path_params[name], errors="strict")
    except UnicodeDecodeError as fault:
        raise bad_request("The address is not valid UTF-8.") from fault


def flag(request: Request, name: str) -> bool:
    """Return whether a parameter of the query is set."""
    return is_set(request.query_params.get(name, ""))


def is_set(value: bool | str) -> bool:
    """Return whether a flag of a query, a form or JSON is true."""
    return str(value).lower() in ("1", "true")


def with_body(
    kind: type[_T],
    handle: Callable[[Request, _T], Response],
    *,
    before: Callable[[Request], object],
    limit: int | None = None,
    form: bool = False,
    alone: bool = False,
) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint for a function that takes the body: JSON as ``kind`` declares it; empty means an empty object.

    ``before``: refuses callers before a byte of the body is read. ``limit``: the most bytes of the body; by default the
    registry's limit. ``form``: whether the body may be a form, which it is unless its type is JSON. ``alone``: whether
    it may take long, so that only one runs at a time and others do not wait behind many.
    """

    async def endpoint(request: Request) -> Response:
        await run_in_threadpool(before, request)
        raw = await _read(request, limit or registry_of(request).limits.body_bytes)
        limiter = request.app.state.alone if alone else None
        return await to_thread.run_sync(_handled, request, raw, limiter=limiter)

    def _handled(request: Request, raw: bytes) -> Response:
        is_json = request.headers.get("content-type", "").lower().startswith("application/json")
        return handle(request, _form(kind, raw) if form and not is_json else _json(kind, raw))

    return endpoint


def _json(kind: type[_T], raw: bytes) -> _T:
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        raise bad_request(f"The body is not the expected JSON: {fault}.") from fault


def _form(kind: type[_T], raw: bytes) -> _T:
    try:
        fields = parse_qs(
            raw.decode("ascii"), keep_blank_values=True, strict_parsing=bool(raw), max_num_fields=FORM_FIELDS
        )
        # Of a field that takes one value, the last one counts.
        types = {field.name: field.type for field in msgspec.structs.fields(kind)}
        known = {
            name: values if _is_list(types[name]) else values[-1] for name, values in fields.items() if name in types
        }
        return msgspec.convert(known, type=kind, strict=False)
    except (msgspec.MsgspecError, ValueError) as fault:
        raise bad_request(f"The body is not the expected form: {fault}.") from fault


def _is_list(kind: Any) -> bool:
    return "list" in str(kind)


async def _read(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise too_large(f"The body is longer than {limit:,} bytes.")
    return bytes(body)


def page_asked(request: Request) -> tuple[int, str]:
    """Return the requested page of a listing: its number of entries, and the cursor before its first entry."""
    text = request.query_params.get("limit", str(PAGE))
    if not _DIGITS.fullmatch(text):
        raise bad_request("'limit' must be a number.")
    return min(max(int(text), 1), PAGE), request.query_params.get("cursor", "")


def page(request: Request, entries: Iterable[tuple[Any, str]], headers: dict[str, str] | None = None) -> Response:
    """Return one page of a listing as JSON; its ``Link`` header leads to the next page.

    ``entries``: each with the cursor after it; one more than the page holds if there are more.
    """
    limit, _ = page_asked(request)
    texts: list[str] = []
    size, last, more = 0, "", False
    for entry, cursor in entries:
        if len(texts) == limit or size > PAGE_BYTES:
            more = True
            break
        texts.append(json.dumps(entry, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
        size, last = size + len(texts[-1]), cursor
    headers = dict(headers or {})
    if more:
        query = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
        address = request.url.replace(query=urlencode([*query, ("cursor", last)]))
        headers["Link"] = f'<{address}>; rel="next"'
    return Response(f"[{','.join(texts)}]", headers=headers, media_type="application/json")
