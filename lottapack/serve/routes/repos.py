"""Make, delete, move repositories and change their settings."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lottapack.serve import repos
from lottapack.serve.access import Caller, find_repo, identify, require_write
from lottapack.serve.bodies import part, registry_of, text, with_json
from lottapack.serve.names import check_repo
from lottapack.serve.refusals import bad_request


def _writer(request: Request) -> Caller:
    registry = registry_of(request)
    with registry.database.read() as db:
        caller = identify(db, request, registry.rules)
    require_write(caller)
    return caller


def _private(body: dict[str, Any]) -> bool | None:
    """What a body says of who may see a repository, in today's words or those of older clients."""
    visibility = body.get("visibility")
    if visibility not in (None, "public", "private"):
        raise bad_request(f"A repository can be public or private here, not {visibility!r}.")
    private = body.get("private")
    if private is not None and not isinstance(private, bool):
        raise bad_request("'private' must be true or false.")
    return private if visibility is None else visibility == "private"


def _check_type(body: dict[str, Any]) -> None:
    if body.get("type") not in (None, "model"):
        raise bad_request(f"This registry holds models only, no {body['type']!r}.")


def _split(full: str) -> tuple[str, str]:
    owner, slash, name = full.partition("/")
    if not slash:
        raise bad_request(f"{full!r} is not of the form owner/name.")
    check_repo(owner, name)
    return owner, name


def _create(request: Request, body: dict[str, Any]) -> Response:
    caller = _writer(request)
    _check_type(body)
    owner, name = body.get("organization") or caller.name, text(body, "name")
    full = check_repo(str(owner), name)
    registry = registry_of(request)
    with registry.database.read() as db:
        known = repos.find(db, str(owner), name)
    answer = {"url": f"{request.base_url}{full}", "name": full}
    if known:
        return JSONResponse({"error": f"There is a repository {full} already.", **answer}, 409)
    made = registry.committer.create(str(owner), name, caller.name, private=_private(body) or False)
    return JSONResponse({**answer, "id": str(made.number)})


def _delete(request: Request, body: dict[str, Any]) -> Response:
    caller = _writer(request)
    _check_type(body)
    registry = registry_of(request)
    with registry.database.read() as db:
        repo = find_repo(db, caller, str(body.get("organization") or caller.name), text(body, "name"))
    registry.committer.delete(repo)
    return JSONResponse({})


def _move(request: Request, body: dict[str, Any]) -> Response:
    caller = _writer(request)
    _check_type(body)
    source, target = _split(text(body, "fromRepo")), _split(text(body, "toRepo"))
    registry = registry_of(request)
    with registry.database.write() as db:
        repos.move(db, find_repo(db, caller, *source), *target)
    return JSONResponse({"url": f"{request.base_url}{'/'.join(target)}"})


def _settings(request: Request, body: dict[str, Any]) -> Response:
    caller = _writer(request)
    if body.get("gated") not in (None, False):
        raise bad_request("This registry has no gated repositories; make it private.")
    private = _private(body)
    registry = registry_of(request)
    with registry.database.write() as db:
        repo = find_repo(db, caller, part(request, "owner"), part(request, "name"))
        if private is not None:
            repos.set_private(db, repo, private)
    return JSONResponse({"private": repo.private if private is None else private, "gated": False})


ROUTES = [
    Route("/api/repos/create", with_json(_create), methods=["POST"]),
    Route("/api/repos/delete", with_json(_delete), methods=["DELETE"]),
    Route("/api/repos/move", with_json(_move), methods=["POST"]),
    Route("/api/models/{owner}/{name}/settings", with_json(_settings), methods=["PUT"]),
]
