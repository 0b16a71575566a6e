"""Which models there are, and what is in one: listings, information, files, history."""

import html
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lottapack.serve import cards, repos, revisions, views
from lottapack.serve.access import find_repo, identify, require_read
from lottapack.serve.bodies import flag, page, part, registry_of, with_form
from lottapack.serve.refusals import RefusedError, entry_not_found
from lottapack.serve.repos import Repo
from lottapack.serve.revisions import MAIN, Commit

_MAX_PATHS = 1000


def _list(request: Request) -> Response:
    registry, query = registry_of(request), request.query_params
    wanted = set(query.getlist("filter"))
    with registry.database.read() as db:
        caller = identify(db, request, registry.rules)
        require_read(caller)
        heads: list[tuple[Repo, Commit]] = []
        for repo in repos.listed(db, private=caller.known, author=query.get("author"), search=query.get("search")):
            head = revisions.branch(db, repo, MAIN)
            assert head is not None  # main cannot be deleted
            card = cards.card(registry.store, revisions.files(db, head)) if wanted else {}
            if wanted <= set(cards.tags(card)):
                heads.append((repo, head))
        _sort(heads, query.get("sort"))
        return page(request, heads, lambda pair: views.model(db, registry.store, *pair))


def _sort(heads: list[tuple[Repo, Commit]], key: str | None) -> None:
    if key in ("lastModified", "last_modified"):
        heads.sort(key=lambda pair: pair[1].date, reverse=True)
    elif key in ("createdAt", "created_at"):
        heads.sort(key=lambda pair: pair[0].created, reverse=True)


def _info(request: Request) -> Response:
    registry = registry_of(request)
    revision = part(request, "revision") if "revision" in request.path_params else MAIN
    with registry.database.read() as db:
        repo = find_repo(db, identify(db, request, registry.rules), part(request, "owner"), part(request, "name"))
        commit = revisions.resolve(db, repo, revision)
        # With "blobs" or without: mirrors forget to pass that on.
        found = views.model(db, registry.store, repo, commit, blobs=True)
    return JSONResponse(found, headers={"X-Repo-Commit": commit.id})


def _tree(request: Request) -> Response:
    registry = registry_of(request)
    folder = part(request, "path").strip("/") if "path" in request.path_params else ""
    with registry.database.read() as db:
        repo = find_repo(db, identify(db, request, registry.rules), part(request, "owner"), part(request, "name"))
        commit = revisions.resolve(db, repo, part(request, "revision"))
        entries = views.tree(db, revisions.files(db, commit), expand=flag(request, "expand"))
    if folder and not any(entry["path"] == folder and entry["type"] == "directory" for entry in entries):
        raise entry_not_found(folder, commit.id)
    if folder:
        entries = [entry for entry in entries if entry["path"].startswith(f"{folder}/")]
    if not flag(request, "recursive"):
        depth = folder.count("/") + 1 if folder else 0
        entries = [entry for entry in entries if entry["path"].count("/") == depth]
    answer = page(request, entries)
    answer.headers["X-Repo-Commit"] = commit.id
    return answer


def _paths_info(request: Request, fields: dict[str, list[str]]) -> Response:
    registry = registry_of(request)
    paths = {path.strip("/") for path in fields.get("paths", [])}
    if len(paths) > _MAX_PATHS:
        raise RefusedError(413, f"At most {_MAX_PATHS} paths can be asked for at once.")
    expand = fields.get("expand", [""])[0].lower() in ("1", "true")
    with registry.database.read() as db:
        repo = find_repo(db, identify(db, request, registry.rules), part(request, "owner"), part(request, "name"))
        commit = revisions.resolve(db, repo, part(request, "revision"))
        entries = views.tree(db, revisions.files(db, commit), expand=expand)
    found = [entry for entry in entries if entry["path"] in paths]
    return JSONResponse(found, headers={"X-Repo-Commit": commit.id})


def _commits(request: Request) -> Response:
    registry = registry_of(request)
    formatted = "formatted" in request.query_params.getlist("expand[]")
    with registry.database.read() as db:
        repo = find_repo(db, identify(db, request, registry.rules), part(request, "owner"), part(request, "name"))
        found = revisions.history(db, revisions.resolve(db, repo, part(request, "revision")))

    def show(commit: Commit) -> dict[str, Any]:
        plain = views.commit(commit)
        if formatted:
            plain["formatted"] = {"title": html.escape(commit.title), "message": html.escape(commit.message)}
        return plain

    return page(request, found, show)


ROUTES = [
    Route("/api/models", _list),
    Route("/api/models/{owner}/{name}", _info),
    Route("/api/models/{owner}/{name}/revision/{revision}", _info),
    Route("/api/models/{owner}/{name}/tree/{revision}", _tree),
    Route("/api/models/{owner}/{name}/tree/{revision}/{path:path}", _tree),
    Route("/api/models/{owner}/{name}/paths-info/{revision}", with_form(_paths_info), methods=["POST"]),
    Route("/api/models/{owner}/{name}/commits/{revision}", _commits),
]
