"""The registry's pages: the list of repositories, a repository at a revision, its history, its branches and tags."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final
from urllib.parse import quote, urlencode

from anyio import to_thread
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from lottapack.format.files import GRAPH
from lottapack_serve import cards, pages, repos, revisions, trees
from lottapack_serve.access import Caller, reader, visible
from lottapack_serve.bodies import part, registry_of
from lottapack_serve.html import cards as card_pages
from lottapack_serve.html import packs
from lottapack_serve.html.packs import Description
from lottapack_serve.html.rendering import Cache, PageRoute, page
from lottapack_serve.refusals import bad_request, entry_not_found
from lottapack_serve.repos import Repo, Wanted
from lottapack_serve.revisions import MAIN, Commit, Ref
from lottapack_serve.trees import Entry

_REPOS: Final = 24
_FILES: Final = 50
_COMMITS: Final = 50
_REFS: Final = 100
_SOME_REFS: Final = 8
_LONGEST_SEARCH: Final = 200
_KEY: Final = 500
"""The bytes that a kept card takes beside its text, which may be empty."""


class Pages:
    """What was read and rendered for pages."""

    def __init__(self) -> None:
        self.cards = Cache[Markup](2**23)
        self.packs = Cache[Description](1000)


def _index(request: Request) -> Response:
    query = request.query_params
    search = query.get("search", "").strip()[:_LONGEST_SEARCH]
    author, tag = query.get("author", ""), query.get("filter", "")
    by_name = query.get("sort") == "name"
    with registry_of(request).database.read() as db:
        caller = reader(db, request)
        wanted = Wanted(
            private=caller.known,
            author=author or None,
            search=search,
            tags=(tag,) if tag else (),
            sort="" if by_name else "updated",
            after=query.get("cursor", ""),
        )
        try:
            entries = repos.listed(db, wanted, _REPOS + 1)
        except ValueError as fault:
            raise bad_request("'cursor' must be that of the previous page.") from fault
        rows = [(entry, cards.kept(db, entry.readme, whole=False).get("tags", [])) for entry in entries[:_REPOS]]
    kept = {"search": search, "author": author, "filter": tag, "sort": "name" if by_name else ""}
    following = {**kept, "cursor": entries[_REPOS - 1].after} if len(entries) > _REPOS else {}
    return page(
        request,
        "index.html",
        caller=caller,
        rows=rows,
        search=search,
        author=author,
        tag=tag,
        by_name=by_name,
        other_order=_query({**kept, "sort": "" if by_name else "name"}),
        first=_query(kept) if wanted.after else "",
        following=_query(following) if following else "",
    )


def _query(fields: dict[str, str]) -> str:
    return "/?" + urlencode({name: value for name, value in fields.items() if value})


@dataclass(frozen=True, slots=True)
class _Seen:
    """A repository at a revision, as the index has it. ``pack`` and ``card`` are files of its root."""

    caller: Caller
    repo: Repo
    commit: Commit
    revision: str
    folder: str
    entries: Sequence[Entry]
    refs: Sequence[Ref]
    tags: Sequence[str]
    card: Entry | None
    pack: Entry | None
    graph: bool

    @property
    def address(self) -> str:
        """The address of the repository."""
        return f"/{self.repo.id}"


def _look(request: Request) -> _Seen:
    folder = part(request, "path").strip("/") if "path" in request.path_params else ""
    revision = part(request, "revision") if "revision" in request.path_params else MAIN
    with registry_of(request).database.read() as db:
        caller, repo = visible(db, request)
        commit = revisions.resolve(db, repo, revision)
        if folder:
            entry = trees.at(db, commit.number, folder)
            if entry is None or entry.sha256:
                raise entry_not_found(folder, commit.id)
        card = None if folder else trees.at(db, commit.number, cards.README)
        brief = cards.kept(db, card.sha256, whole=False) if card else {}
        return _Seen(
            caller=caller,
            repo=repo,
            commit=commit,
            revision=revision,
            folder=folder,
            entries=trees.inside(db, commit.number, folder, request.query_params.get("cursor", ""), _FILES + 1),
            refs=revisions.refs(db, repo),
            tags=brief.get("tags", []),
            card=card,
            pack=None if folder else _pack(db, commit),
            graph=not folder and trees.at(db, commit.number, GRAPH) is not None,
        )


def _pack(db: sqlite3.Connection, commit: Commit) -> Entry | None:
    """Return the pack in the root of a commit, or None if it has none or several."""
    packs_there = trees.packs(db, commit.number, 2)
    return packs_there[0] if len(packs_there) == 1 else None


async def _repository(request: Request) -> Response:
    seen = await run_in_threadpool(_look, request)
    made = _made(request, seen)
    if made is None:
        # One at a time: a stranger's card or pack may take a second, and no thread waits meanwhile.
        await to_thread.run_sync(_make, request, seen, limiter=request.app.state.alone)
        made = _made(request, seen)
    return await run_in_threadpool(_show, request, seen, made or (None, None))


_Parts = tuple[Markup | None, Description | None]


def _keys(seen: _Seen) -> tuple[tuple[str, ...], tuple[str, ...]]:
    card = (seen.card.sha256 or "", seen.repo.id, seen.commit.id) if seen.card else ()
    return card, (seen.pack.sha256 or "",) if seen.pack else ()


def _made(request: Request, seen: _Seen) -> _Parts | None:
    """Return the card and the pack of a page, or None if one of them was not made yet."""
    kept = _pages(request)
    card_key, pack_key = _keys(seen)
    card, pack = kept.cards.get(card_key), kept.packs.get(pack_key)
    return None if (card_key and card is None) or (pack_key and pack is None) else (card, pack)


def _make(request: Request, seen: _Seen) -> None:
    kept, store = _pages(request), registry_of(request).store
    card_key, pack_key = _keys(seen)
    if seen.card and seen.card.sha256 and kept.cards.get(card_key) is None:
        try:
            with store.path(seen.card.sha256).open(encoding="utf-8", errors="replace") as file:
                text = file.read(card_pages.LONGEST_FILE)
        except OSError:
            text = ""  # the registry has lost it; its download says so
        made = card_pages.page(text, seen.address, seen.commit.id)
        kept.cards.put(card_key, made, len(made) + _KEY)
    if seen.pack and seen.pack.sha256 and kept.packs.get(pack_key) is None:
        kept.packs.put(pack_key, packs.describe(store.path(seen.pack.sha256)))


def _pages(request: Request) -> Pages:
    kept = request.app.state.pages
    assert isinstance(kept, Pages)
    return kept


def _show(request: Request, seen: _Seen, made: _Parts) -> Response:
    card, pack = made
    more = len(seen.entries) > _FILES
    shown = seen.entries[:_FILES]
    return page(
        request,
        "repository.html",
        caller=seen.caller,
        seen=seen,
        entries=shown,
        following=quote(shown[-1].path) if more else "",
        later="cursor" in request.query_params,
        branches=[ref for ref in seen.refs if ref.kind == "heads"][:_SOME_REFS],
        tagged=[ref for ref in seen.refs if ref.kind == "tags"][-_SOME_REFS:][::-1],
        reference=seen.repo.id if seen.revision == MAIN else f"{seen.repo.id}@{seen.revision}",
        card=card,
        pack=pack,
        verify=_address(seen, pack, "index.html"),
        run=_address(seen, pack, "run.html") if pack and (pack.graph or seen.graph) and _can_run() else "",
    )


def _address(seen: _Seen, pack: Description | None, tool: str) -> str:
    """Return the address of a page that opens the pack in the browser, or an empty text."""
    if seen.pack is None or pack is None or pack.fault:
        return ""
    files = f"{seen.address}/resolve/{seen.commit.id}/"
    query = {"pack": files + quote(seen.pack.path)}
    if seen.graph and not pack.graph:
        query["graph"] = files + GRAPH
    return f"/-/web/{tool}?{urlencode(query)}"


def _can_run() -> bool:
    """Return whether the page that runs packs has its runtime, which a checkout has after ``make web``."""
    return (pages.folder() / "vendor").is_dir()


def _history(request: Request) -> Response:
    revision = part(request, "revision")
    cursor = request.query_params.get("cursor", "")
    with registry_of(request).database.read() as db:
        caller, repo = visible(db, request)
        newest = revisions.resolve(db, repo, revision)
        begin = revisions.resolve(db, repo, cursor) if cursor else newest
        commits = list(islice(revisions.history(db, begin, _COMMITS + 2), bool(cursor), None))
        names: dict[str, list[str]] = {}
        for ref in revisions.refs(db, repo):
            names.setdefault(ref.commit, []).append(ref.name)
    return page(
        request,
        "history.html",
        caller=caller,
        repo=repo,
        revision=revision,
        commits=commits[:_COMMITS],
        names=names,
        following=commits[_COMMITS - 1].id if len(commits) > _COMMITS else "",
    )


def _refs(request: Request) -> Response:
    after = request.query_params.get("cursor", "")
    with registry_of(request).database.read() as db:
        caller, repo = visible(db, request)
        refs = revisions.refs(db, repo)
    left = [ref for ref in refs if f"{ref.kind}/{ref.name}" > after]
    return page(
        request,
        "refs.html",
        caller=caller,
        repo=repo,
        total=len(refs),
        refs=left[:_REFS],
        following=f"{left[_REFS - 1].kind}/{left[_REFS - 1].name}" if len(left) > _REFS else "",
    )


def _welcome(request: Request) -> Response:
    address = str(request.base_url).rstrip("/")
    return PlainTextResponse(f"A lottapack registry. Use it with: export HF_ENDPOINT={address}\n")


_REPO = "/{owner}/{name}"

ROUTES = [
    PageRoute("/", _index),
    PageRoute(_REPO, _repository),
    PageRoute(f"{_REPO}/tree/{{revision}}", _repository),
    PageRoute(f"{_REPO}/tree/{{revision}}/{{path:path}}", _repository),
    PageRoute(f"{_REPO}/commits/{{revision}}", _history),
    PageRoute(f"{_REPO}/refs", _refs),
    Route("/", _welcome),
]
