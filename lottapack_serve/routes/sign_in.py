"""Endpoints by which a browser gets the rights of a token, and gives them up."""

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from lottapack_serve import tokens
from lottapack_serve.access import check_host
from lottapack_serve.bodies import registry_of, with_body
from lottapack_serve.html.rendering import HEADERS, PageRoute, own_address, page
from lottapack_serve.html.sessions import COOKIE, SECONDS, Sessions
from lottapack_serve.limits import SMALL_BODY
from lottapack_serve.refusals import RefusedError


class _Form(msgspec.Struct):
    token: str = ""
    next: str = "/"


def _ask(request: Request) -> Response:
    check_host(request)
    return _form(request, request.query_params.get("next", "/"))


def _form(request: Request, next_: str, fault: str = "", status: int = 200) -> Response:
    return page(request, "sign_in.html", status=status, caller=None, next=own_address(next_), fault=fault)


def _own_page(request: Request) -> None:
    """Raise RefusedError with status 403 for a form that another site sent."""
    check_host(request)
    origin = request.headers.get("origin")
    other = origin is not None and origin.partition("://")[2] != request.headers.get("host", "")
    if other or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise RefusedError(403, "Only this registry's own page can sign in or out.")


def _sign_in(request: Request, body: _Form) -> Response:
    registry = registry_of(request)
    text = body.token.strip()
    with registry.database.read() as db:
        token = tokens.find(db, text)
    if token is None:
        return _form(request, body.next, "The registry does not know this token, or has removed it.", 401)
    answer = RedirectResponse(own_address(body.next), 303, HEADERS)
    answer.set_cookie(
        COOKIE,
        _sessions(request).begin(tokens.digest(text)),
        max_age=SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return answer


def _sign_out(request: Request, _body: _Form) -> Response:
    _sessions(request).end(request.cookies.get(COOKIE, ""))
    # The pages that run packs keep the last one for visits without a network, which may be private.
    answer = RedirectResponse("/", 303, {**HEADERS, "Clear-Site-Data": '"storage"'})
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def _sessions(request: Request) -> Sessions:
    sessions = request.app.state.sessions
    assert isinstance(sessions, Sessions)
    return sessions


ROUTES = [
    PageRoute("/-/sign-in", _ask),
    Route("/-/sign-in", with_body(_Form, _sign_in, before=_own_page, limit=SMALL_BODY, form=True), methods=["POST"]),
    Route("/-/sign-out", with_body(_Form, _sign_out, before=_own_page, limit=SMALL_BODY, form=True), methods=["POST"]),
]
