"""What the endpoints share: parts of the address, small bodies, long listings in pages."""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lottapack.serve.limits import PAGE
from lottapack.serve.refusals import bad_request, too_large
from lottapack.serve.registry import Registry


def registry_of(request: Request) -> Registry:
    """The registry that the application serves."""
    found = request.app.state.registry
    assert isinstance(found, Registry)
    return found


def part(request: Request, name: str) -> str:
    """A part of the address, decoded. Parts are routed while still encoded: a branch's name may hold a slash."""
    try:
        return unquote(request.path_params[name], errors="strict")
    except UnicodeDecodeError as fault:
        raise bad_request("The address is not valid UTF-8.") from fault


def flag(request: Request, name: str) -> bool:
    """Whether a parameter of the query is set."""
    return request.query_params.get(name, "").lower() in ("1", "true")


def with_json(handle: Callable[[Request, dict[str, Any]], Response]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint of a function that takes the body, a JSON object; an empty body is an empty object."""

    async def endpoint(request: Request) -> Response:
        body = await _read(request)
        try:
            found = json.loads(body or b"{}")
        except (ValueError, RecursionError) as fault:
            raise bad_request("The body is not valid JSON.") from fault
        if not isinstance(found, dict):
            raise bad_request("The body must be a JSON object.")
        return await run_in_threadpool(handle, request, found)

    return endpoint


def with_form(handle: Callable[[Request, dict[str, list[str]]], Response]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint of a function that takes a form's fields, each with all its values, from a form or JSON."""

    async def endpoint(request: Request) -> Response:
        body = await _read(request)
        try:
            if request.headers.get("content-type", "").startswith("application/json"):
                fields = {
                    key: [str(item) for item in (value if isinstance(value, list) else [value])]
                    for key, value in json.loads(body).items()
                }
            else:
                fields = parse_qs(body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body))
        except (ValueError, AttributeError, RecursionError) as fault:
            raise bad_request("The body is neither a form nor JSON.") from fault
        return await run_in_threadpool(handle, request, fields)

    return endpoint


async def _read(request: Request) -> bytes:
    limit = registry_of(request).limits.body_bytes
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise too_large(f"The body is longer than {limit:,} bytes.")
    return bytes(body)


def text(body: dict[str, Any], name: str, default: str | None = None) -> str:
    """A field of a body that must be text. Raises RefusedError of status 400."""
    found = body.get(name, default)
    if not isinstance(found, str):
        raise bad_request(f"The body's {name!r} must be text.")
    return found


def page(request: Request, entries: Sequence[Any], show: Callable[[Any], Any] = lambda entry: entry) -> JSONResponse:
    """One page of a listing as JSON; its ``Link`` header leads to the next.

    The query's ``limit`` is the length of a page, and ``cursor`` where it begins.
    """
    try:
        limit = min(max(int(request.query_params.get("limit", PAGE)), 1), PAGE)
        begin = max(int(request.query_params.get("cursor", 0)), 0)
    except ValueError as fault:
        raise bad_request("'limit' and 'cursor' must be numbers.") from fault
    headers = {}
    if begin + limit < len(entries):
        query = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
        address = request.url.replace(query=urlencode([*query, ("cursor", begin + limit)]))
        headers["Link"] = f'<{address}>; rel="next"'
    return JSONResponse([show(entry) for entry in entries[begin : begin + limit]], headers=headers)
