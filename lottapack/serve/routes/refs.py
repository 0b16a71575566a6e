"""Branches and tags."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lottapack.serve import revisions
from lottapack.serve.access import find_repo, identify, require_write
from lottapack.serve.bodies import part, registry_of, text, with_json
from lottapack.serve.revisions import MAIN


def _list(request: Request) -> Response:
    registry = registry_of(request)
    with registry.database.read() as db:
        repo = find_repo(db, identify(db, request, registry.rules), part(request, "owner"), part(request, "name"))
        found = revisions.refs(db, repo)
    shown: dict[str, list[dict[str, str]]] = {"heads": [], "tags": []}
    for ref in found:
        entry = {"name": ref.name, "ref": f"refs/{ref.kind}/{ref.name}", "targetCommit": ref.commit}
        shown[ref.kind].append(entry)
    return JSONResponse({"branches": shown["heads"], "tags": shown["tags"], "converts": [], "pullRequests": []})


def _add(request: Request, kind: str, name: str, revision: str) -> Response:
    registry = registry_of(request)
    with registry.database.write() as db:
        caller = identify(db, request, registry.rules)
        repo = find_repo(db, caller, part(request, "owner"), part(request, "name"))
        require_write(caller)
        revisions.add_ref(db, repo, kind, name, revisions.resolve(db, repo, revision))
    return JSONResponse({})


def _add_branch(request: Request, body: dict[str, Any]) -> Response:
    return _add(request, "heads", part(request, "branch"), text(body, "startingPoint", MAIN))


def _add_tag(request: Request, body: dict[str, Any]) -> Response:
    return _add(request, "tags", text(body, "tag"), part(request, "revision"))


def _delete(request: Request) -> Response:
    kind, key = ("heads", "branch") if "branch" in request.path_params else ("tags", "revision")
    registry = registry_of(request)
    with registry.database.write() as db:
        caller = identify(db, request, registry.rules)
        repo = find_repo(db, caller, part(request, "owner"), part(request, "name"))
        require_write(caller)
        revisions.delete_ref(db, repo, kind, part(request, key))
    return JSONResponse({})


_REPO = "/api/models/{owner}/{name}"

ROUTES = [
    Route(f"{_REPO}/refs", _list),
    Route(f"{_REPO}/branch/{{branch}}", with_json(_add_branch), methods=["POST"]),
    Route(f"{_REPO}/branch/{{branch}}", _delete, methods=["DELETE"]),
    Route(f"{_REPO}/tag/{{revision}}", with_json(_add_tag), methods=["POST"]),
    Route(f"{_REPO}/tag/{{revision}}", _delete, methods=["DELETE"]),
]
