"""Files: their heads, their contents, and parts of them."""

import re
from collections.abc import AsyncIterator
from typing import BinaryIO
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from lottapack.serve import revisions
from lottapack.serve.access import find_repo, identify
from lottapack.serve.bodies import part, registry_of
from lottapack.serve.refusals import RefusedError, entry_not_found
from lottapack.serve.revisions import File

_PIECE = 2**20
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def _resolve(request: Request) -> Response:
    registry = registry_of(request)
    path = part(request, "path")
    with registry.database.read() as db:
        repo = find_repo(db, identify(db, request, registry.rules), part(request, "owner"), part(request, "name"))
        commit = revisions.resolve(db, repo, part(request, "revision"))
        file = revisions.file(db, commit, path)
    if file is None:
        raise entry_not_found(path, commit.id)
    headers = _headers(file, commit.id)
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    begin, end = _range(request, file.blob.size, headers["ETag"])
    size = file.blob.size
    if (begin, end) != (0, size):
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - begin)
    status = 206 if "Content-Range" in headers else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    if not registry.store.is_there(file.blob):
        raise RefusedError(500, f"The registry has lost the content of {path!r} (SHA-256 {file.blob.sha256}).")
    opened = registry.store.path(file.blob.sha256).open("rb")
    return StreamingResponse(_pieces(opened, begin, end), status, headers)


def _headers(file: File, commit: str) -> dict[str, str]:
    # The SHA-256 is the ETag: what a client downloads can be checked with no other request.
    etag = f'"{file.blob.sha256}"'
    name = file.path.rpartition("/")[2]
    plain = re.sub(r'[^\x20-\x7e]|["\\;]', "_", name)
    return {
        "ETag": etag,
        "X-Linked-ETag": etag,
        "X-Linked-Size": str(file.blob.size),
        "X-Repo-Commit": commit,
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}; filename=\"{plain}\";",
    }


def _range(request: Request, size: int, etag: str) -> tuple[int, int]:
    """Which bytes are asked for. More than one range, or one in another form, is answered with the whole."""
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if match is None or match[1] == match[2] == "" or request.headers.get("if-range", etag) != etag:
        return 0, size
    if match[1] == "":
        begin, end = max(size - int(match[2]), 0), size
    else:
        begin, end = int(match[1]), min(int(match[2] or size) + 1, size)
    if match[1] and match[2] and int(match[1]) > int(match[2]):
        return 0, size
    if begin >= end:
        raise RefusedError(416, f"The file has {size} bytes.", headers={"Content-Range": f"bytes */{size}"})
    return begin, end


async def _pieces(opened: BinaryIO, begin: int, end: int) -> AsyncIterator[bytes]:
    with opened:
        opened.seek(begin)
        while begin < end:
            piece = await run_in_threadpool(opened.read, min(_PIECE, end - begin))
            if not piece:
                return  # cut short on disk meanwhile: the client sees that bytes are missing
            begin += len(piece)
            yield piece


ROUTES = [Route("/{owner}/{name}/resolve/{revision}/{path:path}", _resolve)]
