"""Endpoints for models: listings, information, files and history."""

import html
import itertools
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lottapack_serve import repos, revisions, trees, views
from lottapack_serve.access import reader, visible
from lottapack_serve.bodies import flag, is_set, page, page_asked, part, registry_of, with_body
from lottapack_serve.limits import PATHS
from lottapack_serve.refusals import RefusedError, bad_request, entry_not_found
from lottapack_serve.repos import Wanted
from lottapack_serve.revisions import MAIN, Commit

_MAX_FILTERS = 20
_SORTS = {
    "lastModified": "updated",
    "last_modified": "updated",
    "createdAt": "created",
    "created_at": "created",
}


def _list(request: Request) -> Response:
    query = request.query_params
    tags = tuple(dict.fromkeys([*query.getlist("filter"), *query.getlist("pipeline_tag")]))
    if len(tags) > _MAX_FILTERS:
        raise bad_request(f"A request can have at most {_MAX_FILTERS} filters.")
    limit, after = page_asked(request)
    extra = {*query.getlist("expand"), *query.getlist("expand[]")}
    full = flag(request, "full")
    siblings, card = full or "siblings" in extra, full or flag(request, "cardData") or "cardData" in extra
    sort = _SORTS.get(query.get("sort", ""), "")
    with registry_of(request).database.read() as db:
        caller = reader(db, request)
        wanted = Wanted(caller.known, query.get("author"), query.get("search", ""), tags, sort, after)
        try:
            entries = repos.listed(db, wanted, limit + 1)
        except ValueError as fault:
            raise bad_request("'cursor' must be that of the previous page.") from fault
        shown = ((views.listed(db, entry, card=card, siblings=siblings), entry.after) for entry in entries)
        return page(request, shown)


def _info(request: Request) -> Response:
    revision = part(request, "revision") if "revision" in request.path_params else MAIN
    with registry_of(request).database.read() as db:
        _, repo = visible(db, request)
        commit = revisions.resolve(db, repo, revision)
        # Always with the sizes of "blobs", because mirrors forget to pass that parameter on.
        description = views.model(db, repo, commit)
    return JSONResponse(description, headers={"X-Repo-Commit": commit.id})


def _tree(request: Request) -> Response:
    folder = part(request, "path").strip("/") if "path" in request.path_params else ""
    limit, after = page_asked(request)
    with registry_of(request).database.read() as db:
        _, repo = visible(db, request)
        commit = revisions.resolve(db, repo, part(request, "revision"))
        if folder:
            entry = trees.at(db, commit.number, folder)
            if entry is None or entry.sha256:
                raise entry_not_found(folder, commit.id)
        listing = trees.below if flag(request, "recursive") else trees.inside
        listed_entries = listing(db, commit.number, folder, after, limit + 1)
        shown = views.entries(db, listed_entries, expand=flag(request, "expand"))
        return page(request, ((item, item["path"]) for item in shown), {"X-Repo-Commit": commit.id})


class _Paths(msgspec.Struct):
    paths: list[str] | str = []
    expand: bool | str = False


def _may_read(request: Request) -> None:
    with registry_of(request).database.read() as db:
        visible(db, request)


def _paths_info(request: Request, body: _Paths) -> Response:
    named = [body.paths] if isinstance(body.paths, str) else body.paths
    paths = sorted({path.strip("/") for path in named})
    if len(named) > PATHS:
        raise RefusedError(413, f"A request can have at most {PATHS:,} paths.")
    with registry_of(request).database.read() as db:
        _, repo = visible(db, request)
        commit = revisions.resolve(db, repo, part(request, "revision"))
        existing = [entry for path in paths if (entry := trees.at(db, commit.number, path))]
        shown = list(views.entries(db, existing, expand=is_set(body.expand)))
    return JSONResponse(shown, headers={"X-Repo-Commit": commit.id})


def _commits(request: Request) -> Response:
    formatted = "formatted" in {*request.query_params.getlist("expand[]"), *request.query_params.getlist("expand")}
    limit, cursor = page_asked(request)
    with registry_of(request).database.read() as db:
        _, repo = visible(db, request)
        newest = revisions.resolve(db, repo, part(request, "revision"))
        # A cursor is the last commit of the previous page.
        begin = revisions.resolve(db, repo, cursor) if cursor else newest
        selected = itertools.islice(revisions.history(db, begin, limit + 2), bool(cursor), None)
        return page(request, ((_commit(commit, formatted), commit.id) for commit in selected))


def _commit(commit: Commit, formatted: bool) -> dict[str, Any]:
    plain = views.commit(commit)
    if formatted:
        plain["formatted"] = {"title": html.escape(commit.title), "message": html.escape(commit.message)}
    return plain


ROUTES = [
    Route("/api/models", _list),
    Route("/api/models/{owner}/{name}", _info),
    Route("/api/models/{owner}/{name}/revision/{revision}", _info),
    Route("/api/models/{owner}/{name}/tree/{revision}", _tree),
    Route("/api/models/{owner}/{name}/tree/{revision}/{path:path}", _tree),
    Route(
        "/api/models/{owner}/{name}/paths-info/{revision}",
        with_body(_Paths, _paths_info, before=_may_read, form=True),
        methods=["POST"],
    ),
    Route("/api/models/{owner}/{name}/commits/{revision}", _commits),
]
