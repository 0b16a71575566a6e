"""Endpoints to create, delete and move repositories, and to change their settings."""

import sqlite3
from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lottapack_serve import repos
from lottapack_serve.access import find_repo, writer
from lottapack_serve.bodies import part, registry_of, with_body
from lottapack_serve.limits import SMALL_BODY
from lottapack_serve.names import check_repo
from lottapack_serve.refusals import RefusedError, bad_request
from lottapack_serve.repos import Repo


class _Body(msgspec.Struct):
    """The fields of requests about repositories; each request uses some of them."""

    name: str = ""
    organization: str | None = None
    type: str | None = None
    visibility: str | None = None
    private: bool | None = None
    gated: bool | str | None = None
    fromRepo: str = ""  # noqa: N815 - the Hub's names
    toRepo: str = ""  # noqa: N815


def _may_write(request: Request) -> None:
    with registry_of(request).database.read() as db:
        writer(db, request)


def _private(body: _Body) -> bool | None:
    """Return whether a body makes a repository private, in the words of current or older clients."""
    if body.visibility not in (None, "public", "private"):
        raise bad_request(f"A repository here can be public or private, not {body.visibility!r}.")
    return body.private if body.visibility is None else body.visibility == "private"


def _check_type(body: _Body) -> None:
    if body.type not in (None, "model"):
        raise bad_request(f"This registry only holds models, not {body.type!r}.")


def _split(full: str) -> tuple[str, str]:
    owner, slash, name = full.partition("/")
    if not slash:
        raise bad_request(f"{full!r} does not have the form owner/name.")
    check_repo(owner, name)
    return owner, name


def _create(request: Request, body: _Body) -> Response:
    registry = registry_of(request)
    _check_type(body)
    private = _private(body) or False
    with registry.database.read() as db:
        owner = body.organization or writer(db, request).name
    full = check_repo(owner, body.name)
    answer = {"url": f"{request.base_url}{full}", "name": full}
    try:
        made = registry.committer.create(owner, body.name, lambda db: writer(db, request).name, private=private)
    except RefusedError as fault:
        if fault.status != 409:
            raise
        # Clients that accept an existing repository read its address.
        return JSONResponse({"error": fault.message, **answer}, 409)
    return JSONResponse({**answer, "id": str(made.number)})


def _delete(request: Request, body: _Body) -> Response:
    registry = registry_of(request)
    _check_type(body)

    def allowed(db: sqlite3.Connection) -> Repo:
        caller = writer(db, request)
        return find_repo(db, caller, body.organization or caller.name, body.name)

    registry.committer.delete(allowed)
    return JSONResponse({})


def _move(request: Request, body: _Body) -> Response:
    _check_type(body)
    source, target = _split(body.fromRepo), _split(body.toRepo)
    with registry_of(request).database.write() as db:
        repos.move(db, find_repo(db, writer(db, request), *source), *target)
    return JSONResponse({"url": f"{request.base_url}{'/'.join(target)}"})


def _settings(request: Request, body: _Body) -> Response:
    if body.gated not in (None, False):
        raise bad_request("This registry does not support gated repositories. Make it private instead.")
    private = _private(body)
    with registry_of(request).database.write() as db:
        repo = find_repo(db, writer(db, request), part(request, "owner"), part(request, "name"))
        if private is not None:
            repos.set_private(db, repo, private)
    return JSONResponse({"private": repo.private if private is None else private, "gated": False})


def _route(path: str, handle: Callable[[Request, _Body], Response], method: str) -> Route:
    return Route(path, with_body(_Body, handle, before=_may_write, limit=SMALL_BODY), methods=[method])


ROUTES = [
    _route("/api/repos/create", _create, "POST"),
    _route("/api/repos/delete", _delete, "DELETE"),
    _route("/api/repos/move", _move, "POST"),
    _route("/api/models/{owner}/{name}/settings", _settings, "PUT"),
]
