"""The application: all endpoints, and every failure as JSON that clients understand."""

import re
from http import HTTPStatus

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp

from lottapack_serve.html.refusals import is_for_person, refusal
from lottapack_serve.html.sessions import Sessions
from lottapack_serve.refusals import MovedError, RefusedError
from lottapack_serve.registry import Registry
from lottapack_serve.routes import account, assets, commit, models, pages, refs, repos, resolve, sign_in
from lottapack_serve.traffic import Log, Traffic


def application(registry: Registry, log: Log | None = None) -> ASGIApp:
    """Return the ASGI application of a registry. ``log`` is called after each request, in the server's thread."""
    app = Starlette(
        routes=[
            route
            for part in (account, repos, models, refs, commit, resolve, assets, sign_in, pages)
            for route in part.ROUTES
        ],
        exception_handlers={
            RefusedError: _refused,
            MovedError: _moved,
            HTTPException: _http,
            ClientDisconnect: _gone,
            OverflowError: _odd,
            UnicodeEncodeError: _odd,
            Exception: _failed,
        },
    )
    app.router.redirect_slashes = False
    app.state.registry = registry
    app.state.turn = anyio.CapacityLimiter(1)
    app.state.alone = anyio.CapacityLimiter(1)
    app.state.sessions = Sessions()
    app.state.pages = pages.Pages()
    return Traffic(app, log)


def _answer(request: Request, status: int, message: str, headers: dict[str, str]) -> Response:
    if is_for_person(request):
        return refusal(request, status, message, headers)
    # Headers are one line of Latin-1; the body has the full message.
    line = "".join(character if " " <= character <= "~" else "?" for character in message)
    return JSONResponse({"error": message}, status, {"X-Error-Message": line, **headers})


async def _refused(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, RefusedError)
    code = {"X-Error-Code": fault.code} if fault.code else {}
    return _answer(request, fault.status, fault.message, {**code, **fault.headers})


async def _moved(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, MovedError)
    parts = request.url.path.split("/")
    first = 3 if parts[1] == "api" else 1
    address = "/".join([*parts[:first], fault.repo, *parts[first + 2 :]])
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(address + query, 307)


_ELSEWHERE = re.compile(
    r"/api/models/[^/]+(/(revision|tree|paths-info|commits|commit|preupload|branch|tag|auth-check)(/.*)?)?"
    r"|/api/(datasets|spaces)/.+|/[^/]+/resolve/.*|/(datasets|spaces)/.*"
)
"""Addresses of the Hub that a registry of this kind cannot have: repositories without owners, or of other types."""


async def _http(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, HTTPException)
    if fault.status_code == 404 and _ELSEWHERE.fullmatch(request.url.path):
        message = "This registry only holds models, with names of the form owner/name."
        return _answer(request, 404, message, {"X-Error-Code": "RepoNotFound"})
    message = {
        404: f"This registry does not support {request.url.path}. Its documentation lists the supported part of the "
        f"Hub.",
        405: f"{request.url.path} does not support {request.method}.",
    }.get(fault.status_code, fault.detail)
    return _answer(request, fault.status_code, message, dict(fault.headers or {}))


async def _gone(_request: Request, _fault: Exception) -> Response:
    return Response(status_code=400)  # the client is gone


async def _odd(request: Request, _fault: Exception) -> Response:
    # A safety net under bodies.py: the index refuses larger numbers and lone surrogates, and nothing else has any.
    return _answer(request, 400, "The request contains a number or a text that this registry cannot store.", {})


async def _failed(request: Request, _fault: Exception) -> Response:
    return _answer(request, 500, f"{HTTPStatus(500).phrase}. The registry's log has the details.", {})
