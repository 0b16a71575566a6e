"""Endpoints for commits: what already exists (preupload), and the commit itself, read as it arrives."""

import sqlite3

import msgspec
from anyio import to_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lottapack_serve import trees
from lottapack_serve.access import Caller, writable
from lottapack_serve.blobs import Blob
from lottapack_serve.bodies import flag, part, registry_of, with_body
from lottapack_serve.commits import Change, check_head
from lottapack_serve.ndjson import CommitReader
from lottapack_serve.refusals import bad_request, repo_not_found, too_large
from lottapack_serve.repos import Repo

_BATCH = 512 * 2**10
"""The bytes of a body that are handed to a thread at a time."""


def _writable(db: sqlite3.Connection, request: Request, parent: str | None = None) -> tuple[Caller, Repo]:
    if flag(request, "create_pr"):
        raise bad_request("This registry does not support pull requests. Commit to a branch.")
    caller, repo = writable(db, request)
    check_head(db, repo, part(request, "branch"), parent)
    return caller, repo


def _may_write(request: Request, parent: str | None = None) -> Repo:
    with registry_of(request).database.read() as db:
        return _writable(db, request, parent)[1]


class _File(msgspec.Struct):
    path: str
    size: int = 0


class _Files(msgspec.Struct):
    files: list[_File]


def _preupload(request: Request, body: _Files) -> Response:
    """Request every file in the commit itself, without LFS or Xet; files that already exist get an ``oid``."""
    registry = registry_of(request)
    limits = registry.limits
    if len(body.files) > limits.commit_files:
        raise too_large(f"A commit can have {limits.commit_files:,} files.")
    for file in body.files:
        if file.size > limits.file_bytes:
            raise too_large(
                f"{file.path!r} has {file.size:,} bytes, but a file of a commit can have {limits.file_bytes:,}."
            )
    answers = []
    with registry.database.read() as db:
        _, repo = _writable(db, request)
        head = check_head(db, repo, part(request, "branch"), None)
        for file in body.files:
            held = trees.at(db, head.number, file.path)
            # Only named if it is complete, so that a client repairs lost content by sending it again.
            whole = held and held.sha256 and registry.store.is_there(Blob(held.sha256, held.size, held.oid))
            oid = held.oid if held and whole else None
            answers.append({"path": file.path, "uploadMode": "regular", "shouldIgnore": False, "oid": oid})
    return JSONResponse({"files": answers})


async def _commit(request: Request) -> Response:
    registry = registry_of(request)
    begun = await run_in_threadpool(_may_write, request)
    reader = CommitReader(registry.store.receive, registry.limits)

    def allowed(db: sqlite3.Connection) -> tuple[str, Repo]:
        caller, repo = _writable(db, request)
        # Deleted meanwhile, and another one was created with its name. Older indexes may give that one the same number.
        if (repo.number, repo.created) != (begun.number, begun.created):
            raise repo_not_found(begun.id, anonymous=False)
        return caller.name, repo

    try:
        change = await _receive(request, reader)
        await run_in_threadpool(registry.committer.prepare, change)
        branch = part(request, "branch")
        # Commits wait for their turn here, and leave the threads to readers.
        turn = request.app.state.turn
        repo, made = await to_thread.run_sync(registry.committer.commit, allowed, branch, change, limiter=turn)
    finally:
        reader.discard()
    address = f"{request.base_url}{repo.id}/commit/{made.id}"
    return JSONResponse({"success": True, "commitOid": made.id, "commitUrl": address, "hookOutput": ""})


async def _receive(request: Request, reader: CommitReader) -> Change:
    batch, checked = bytearray(), False
    async for piece in request.stream():
        batch += piece
        if len(batch) < _BATCH:
            continue
        await run_in_threadpool(reader.feed, bytes(batch))
        batch.clear()
        if reader.change.parent and not checked:
            # Check before the whole file has arrived.
            checked = True
            await run_in_threadpool(_may_write, request, reader.change.parent)
    await run_in_threadpool(reader.feed, bytes(batch))
    return await run_in_threadpool(reader.finish)


ROUTES = [
    Route(
        "/api/models/{owner}/{name}/preupload/{branch}",
        with_body(_Files, _preupload, before=_may_write),
        methods=["POST"],
    ),
    Route("/api/models/{owner}/{name}/commit/{branch}", _commit, methods=["POST"]),
]
