"""Endpoints for the caller's identity and rights, and for checking a card's YAML."""

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lottapack_serve import cards
from lottapack_serve.access import identify, reader, require_write, visible
from lottapack_serve.bodies import registry_of, with_body
from lottapack_serve.refusals import RefusedError


def _whoami(request: Request) -> Response:
    with registry_of(request).database.read() as db:
        caller = identify(db, request)
    if not caller.known:
        raise RefusedError(401, "Invalid username or password.")
    role = "write" if caller.may_write else "read"
    return JSONResponse(
        {
            "type": "user",
            "id": caller.name,
            "name": caller.name,
            "fullname": caller.name,
            "isPro": False,
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": {"displayName": caller.name, "role": role}},
        }
    )


def _check_access(request: Request) -> Response:
    with registry_of(request).database.read() as db:
        caller, _ = visible(db, request)
    if request.url.path.endswith("/write"):
        require_write(caller)
    return JSONResponse({})


class _Card(msgspec.Struct):
    content: str


def _may_read(request: Request) -> None:
    with registry_of(request).database.read() as db:
        reader(db, request)


def _validate_yaml(_request: Request, body: _Card) -> Response:
    try:
        fields = cards.front_matter(body.content)
    except cards.CardError as fault:
        problem = {"message": f"The card's YAML is not valid: {fault}"}
        return JSONResponse({"errors": [problem], "warnings": []}, 400)
    warnings = [] if fields else [{"message": "empty or missing yaml metadata in repo card"}]
    return JSONResponse({"errors": [], "warnings": warnings})


def _harnesses(_request: Request) -> Response:
    """Return which programs count as agents: none.

    Clients cache the answer for a day; after a 404 they ask each time.
    """
    return JSONResponse({"standardEnvVars": [], "harnesses": {}})


ROUTES = [
    Route("/api/whoami-v2", _whoami),
    Route("/api/agent-harnesses", _harnesses),
    Route("/api/validate-yaml", with_body(_Card, _validate_yaml, before=_may_read, alone=True), methods=["POST"]),
    Route("/api/models/{owner}/{name}/auth-check", _check_access),
    Route("/api/models/{owner}/{name}/auth-check/write", _check_access),
]
