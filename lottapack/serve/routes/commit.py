"""Commits: what is there already (preupload), and the commit itself, read as it arrives."""

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lottapack.serve import revisions
from lottapack.serve.access import Caller, find_repo, identify, require_write
from lottapack.serve.bodies import flag, part, registry_of, with_json
from lottapack.serve.commits import Change, check_head
from lottapack.serve.ndjson import CommitReader
from lottapack.serve.refusals import bad_request, too_large
from lottapack.serve.registry import Registry
from lottapack.serve.repos import Repo

_BATCH = 512 * 2**10
"""Bytes of a body that are handed to a thread at once."""


def _writable(request: Request, registry: Registry, parent: str | None = None) -> tuple[Caller, Repo]:
    if flag(request, "create_pr"):
        raise bad_request("This registry has no pull requests. Commit to a branch.")
    with registry.database.read() as db:
        caller = identify(db, request, registry.rules)
        repo = find_repo(db, caller, part(request, "owner"), part(request, "name"))
        require_write(caller)
        check_head(db, repo, part(request, "branch"), parent)
    return caller, repo


def _preupload(request: Request, body: dict[str, Any]) -> Response:
    """Every file comes in the commit, so that neither LFS nor Xet is needed; what is there already has an ``oid``."""
    registry = registry_of(request)
    _, repo = _writable(request, registry)
    try:
        wanted = [(str(file["path"]), int(file.get("size", 0))) for file in body["files"]]
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise bad_request("'files' must list each file's path and size.") from fault
    limit = registry.limits.file_bytes
    for path, size in wanted:
        if size > limit:
            raise too_large(f"{path!r} has {size:,} bytes, and a file of a commit can have {limit:,}.")
    answers = []
    with registry.database.read() as db:
        head = check_head(db, repo, part(request, "branch"), None)
        for path, _ in wanted:
            held = revisions.file(db, head, path)
            # Named only while it is whole, so that a client mends what is lost by sending it again.
            oid = held.blob.oid if held and registry.store.is_there(held.blob) else None
            answers.append({"path": path, "uploadMode": "regular", "shouldIgnore": False, "oid": oid})
    return JSONResponse({"files": answers})


async def _commit(request: Request) -> Response:
    registry = registry_of(request)
    caller, repo = await run_in_threadpool(_writable, request, registry)
    reader = CommitReader(registry.store.receive, registry.limits)
    try:
        change = await _receive(request, registry, reader)
        branch = part(request, "branch")
        made = await run_in_threadpool(registry.committer.commit, repo, branch, caller.name, change)
    except ClientDisconnect:
        return Response(status_code=400)  # to nobody
    finally:
        reader.discard()
    address = f"{request.base_url}{repo.id}/commit/{made.id}"
    return JSONResponse({"success": True, "commitOid": made.id, "commitUrl": address, "hookOutput": ""})


async def _receive(request: Request, registry: Registry, reader: CommitReader) -> Change:
    batch, checked = bytearray(), False
    async for piece in request.stream():
        batch += piece
        if len(batch) < _BATCH:
            continue
        await run_in_threadpool(reader.feed, bytes(batch))
        batch.clear()
        if reader.change.parent and not checked:
            # Better now than after the whole file has come.
            checked = True
            await run_in_threadpool(_writable, request, registry, reader.change.parent)
    await run_in_threadpool(reader.feed, bytes(batch))
    return await run_in_threadpool(reader.finish)


ROUTES = [
    Route("/api/models/{owner}/{name}/preupload/{branch}", with_json(_preupload), methods=["POST"]),
    Route("/api/models/{owner}/{name}/commit/{branch}", _commit, methods=["POST"]),
]
