"""Endpoints for files: their heads, their contents, and ranges of them."""

import re
from collections.abc import AsyncIterator
from typing import BinaryIO
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from lottapack_serve import revisions, trees
from lottapack_serve.access import visible
from lottapack_serve.blobs import Blob
from lottapack_serve.bodies import part, registry_of
from lottapack_serve.refusals import RefusedError, entry_not_found

_PIECE = 2**20
_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")


def _resolve(request: Request) -> Response:
    registry = registry_of(request)
    path = part(request, "path")
    with registry.database.read() as db:
        _, repo = visible(db, request)
        commit = revisions.resolve(db, repo, part(request, "revision"))
        file = trees.at(db, commit.number, path)
    if file is None or file.sha256 is None:
        raise entry_not_found(path, commit.id)
    blob = Blob(file.sha256, file.size, file.oid)
    headers = _headers(path, blob, commit.id)
    etags = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if headers["ETag"] in etags or "*" in etags:
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        return Response(headers={**headers, "Content-Length": str(blob.size)})
    begin, end = _range(request, blob.size, headers["ETag"])
    if (begin, end) != (0, blob.size):
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{blob.size}"
    headers["Content-Length"] = str(end - begin)
    opened = registry.store.open(blob)
    if opened is None:
        raise RefusedError(500, f"The registry has lost the content of {path!r} (SHA-256 {blob.sha256}).")
    return _FileResponse(opened, begin, end, 206 if "Content-Range" in headers else 200, headers)


def _headers(path: str, blob: Blob, commit: str) -> dict[str, str]:
    # The SHA-256 is the ETag, so that a client can check a download without another request.
    etag = f'"{blob.sha256}"'
    name = path.rpartition("/")[2]
    plain = re.sub(r'[^\x20-\x7e]|["\\;]', "_", name)
    return {
        "ETag": etag,
        "X-Linked-ETag": etag,
        "X-Linked-Size": str(blob.size),
        "X-Repo-Commit": commit,
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
        # A stranger's file never runs as a page, script or style of the registry.
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}; filename=\"{plain}\";",
    }


def _range(request: Request, size: int, etag: str) -> tuple[int, int]:
    """Return the requested byte range. Several ranges, or other forms of range, are answered with the whole file."""
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if match is None or match[1] == match[2] == "" or request.headers.get("if-range", etag) != etag:
        return 0, size
    first, last = (_number(text, size) for text in match.groups())
    if match[1] == "":
        begin, end = max(size - last, 0), size
    elif match[2] == "":
        begin, end = first, size
    elif first > last:
        return 0, size
    else:
        begin, end = first, min(last + 1, size)
    if begin >= end:
        raise RefusedError(416, f"The file has {size} bytes.", headers={"Content-Range": f"bytes */{size}"})
    return begin, end


def _number(digits: str, size: int) -> int:
    """Return a number of any length, capped: one with more digits than any size is past the end."""
    digits = digits.lstrip("0")
    return int(digits or 0) if len(digits) <= 18 else size + 10**18


class _FileResponse(StreamingResponse):
    """A part of an open file, which is closed whatever happens to the answer."""

    def __init__(self, opened: BinaryIO, begin: int, end: int, status: int, headers: dict[str, str]) -> None:
        self._opened = opened
        super().__init__(_pieces(opened, begin, end), status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        with self._opened:
            await super().__call__(scope, receive, send)


async def _pieces(opened: BinaryIO, begin: int, end: int) -> AsyncIterator[bytes]:
    opened.seek(begin)
    while begin < end:
        piece = await run_in_threadpool(opened.read, min(_PIECE, end - begin))
        if not piece:
            return  # the file was truncated meanwhile; the client notices missing bytes
        begin += len(piece)
        yield piece


ROUTES = [Route("/{owner}/{name}/resolve/{revision}/{path:path}", _resolve)]
