"""Refusals as pages: what failed, and the next step that a person in front of a browser has."""

from http import HTTPStatus
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from lottapack_serve.html.rendering import accepts_page, own_address, page


def is_for_person(request: Request) -> bool:
    """Return whether a refusal goes to a browser rather than to a program."""
    return accepts_page(request.scope) and not request.url.path.startswith("/api/")


def refusal(request: Request, status: int, message: str, headers: dict[str, str]) -> Response:
    """Return a refusal as a page."""
    query = f"?{request.url.query}" if request.url.query else ""
    here = own_address(request.url.path + query)
    # A link here brings the cookie, and tells a registry without tokens that its own page asks.
    came_from_elsewhere = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    answer = page(
        request,
        "refusal.html",
        status=status,
        caller=None,
        title=HTTPStatus(status).phrase,
        message=message,
        again=here if came_from_elsewhere else "",
        sign_in=f"/-/sign-in?{urlencode({'next': here})}" if status == HTTPStatus.UNAUTHORIZED else "",
    )
    answer.headers.update(headers)
    return answer
