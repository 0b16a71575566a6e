"""Endpoints for the registry's own static files: styles and scripts, and the pages that verify and run packs."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from lottapack_serve import html, pages
from lottapack_serve.bodies import part
from lottapack_serve.refusals import RefusedError

_OWN = Path(html.__file__).with_name("static")
_LONGEST = 255
"""The bytes of a name from which on a file system may refuse to look for it."""


def _static(request: Request) -> Response:
    return _file(request, _OWN)


def _web(request: Request) -> Response:
    return _file(request, pages.folder())


def _file(request: Request, folder: Path) -> Response:
    name = part(request, "path")
    kind = pages.TYPES.get(Path(name).suffix)
    parts = name.split("/")
    # No name of the folder begins with a point; no address with one can leave it.
    is_named = kind and all(one and one[0] != "." for one in parts) and len(name.encode()) < _LONGEST
    is_plain = is_named and "\\" not in name and "\0" not in name
    path = folder.joinpath(*parts) if is_plain else folder
    if not path.is_file():
        raise RefusedError(404, f"The registry does not have a page {name!r}.")
    found = path.stat()
    headers = {**pages.HEADERS, "ETag": f'"{found.st_mtime_ns:x}-{found.st_size:x}"'}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, headers=headers, media_type=kind, stat_result=found)


ROUTES = [Route("/-/static/{path:path}", _static), Route("/-/web/{path:path}", _web)]
