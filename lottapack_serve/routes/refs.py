"""Endpoints for branches and tags."""

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lottapack_serve import revisions
from lottapack_serve.access import visible, writable
from lottapack_serve.bodies import part, registry_of, with_body
from lottapack_serve.limits import SMALL_BODY
from lottapack_serve.revisions import MAIN


def _list(request: Request) -> Response:
    with registry_of(request).database.read() as db:
        _, repo = visible(db, request)
        all_refs = revisions.refs(db, repo)
    shown: dict[str, list[dict[str, str]]] = {"heads": [], "tags": []}
    for ref in all_refs:
        entry = {"name": ref.name, "ref": f"refs/{ref.kind}/{ref.name}", "targetCommit": ref.commit}
        shown[ref.kind].append(entry)
    return JSONResponse({"branches": shown["heads"], "tags": shown["tags"], "converts": [], "pullRequests": []})


class _Branch(msgspec.Struct):
    startingPoint: str | None = None  # noqa: N815 - the Hub's name


class _Tag(msgspec.Struct):
    tag: str


def _may_write(request: Request) -> None:
    with registry_of(request).database.read() as db:
        writable(db, request)


def _add(request: Request, kind: str, name: str, revision: str) -> Response:
    with registry_of(request).database.write() as db:
        _, repo = writable(db, request)
        revisions.add_ref(db, repo, kind, name, revisions.resolve(db, repo, revision))
    return JSONResponse({})


def _add_branch(request: Request, body: _Branch) -> Response:
    return _add(request, "heads", part(request, "branch"), MAIN if body.startingPoint is None else body.startingPoint)


def _add_tag(request: Request, body: _Tag) -> Response:
    return _add(request, "tags", body.tag, part(request, "revision"))


def _delete(request: Request) -> Response:
    kind, key = ("heads", "branch") if "branch" in request.path_params else ("tags", "revision")
    _may_write(request)  # before waiting for the index
    with registry_of(request).database.write() as db:
        _, repo = writable(db, request)
        revisions.delete_ref(db, repo, kind, part(request, key))
    return JSONResponse({})


_REPO = "/api/models/{owner}/{name}"
_ADD_BRANCH = with_body(_Branch, _add_branch, before=_may_write, limit=SMALL_BODY)
_ADD_TAG = with_body(_Tag, _add_tag, before=_may_write, limit=SMALL_BODY)

ROUTES = [
    Route(f"{_REPO}/refs", _list),
    Route(f"{_REPO}/branch/{{branch}}", _ADD_BRANCH, methods=["POST"]),
    Route(f"{_REPO}/branch/{{branch}}", _delete, methods=["DELETE"]),
    Route(f"{_REPO}/tag/{{revision}}", _ADD_TAG, methods=["POST"]),
    Route(f"{_REPO}/tag/{{revision}}", _delete, methods=["DELETE"]),
]
