"""Whole HTTP requests, heads and bodies, to a registry: an answer below 500 for each, and never an exception."""

import asyncio
import atexit
import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import h11
import target

from lottapack_serve import repos
from lottapack_serve.app import application
from lottapack_serve.limits import Limits
from lottapack_serve.registry import Registry, Rules, opened

BODY = (
    b'{"key":"header","value":{"summary":"s"}}\n'
    b'{"key":"file","value":{"path":"a","encoding":"base64","content":"QUFB"}}'
)
SECONDS = 10


def seeds() -> Iterator[bytes]:
    """One request for each address, and some with what clients rarely send."""
    model = "/api/models/org/digits"
    for line, body in (
        ("GET /", b""),
        ("GET /api/whoami-v2", b""),
        ("GET /api/models?limit=1&filter=a&sort=createdAt&cursor=a/b&full=1", b""),
        (f"GET {model}", b""),
        (f"GET {model}/revision/refs%2Fheads%2Fmain", b""),
        (f"GET {model}/refs", b""),
        (f"GET {model}/tree/main/a?recursive=true&expand=true&cursor=a%2Fb", b""),
        (f"GET {model}/commits/main?cursor=a", b""),
        (f"POST {model}/paths-info/main", b"paths=a&paths=%C3%BC&expand=true"),
        (f"POST {model}/preupload/main", b'{"files":[{"path":"a","size":1,"sample":"eA=="}]}'),
        (f"POST {model}/commit/main", BODY),
        (f"POST {model}/branch/b%2Fc", b'{"startingPoint":"main"}'),
        (f"DELETE {model}/branch/b%2Fc", b""),
        (f"POST {model}/tag/main", b'{"tag":"v1"}'),
        (f"DELETE {model}/tag/v1", b""),
        (f"GET {model}/auth-check/write", b""),
        (f"PUT {model}/settings", b'{"private":true,"gated":false}'),
        ("POST /api/validate-yaml", b'{"content":"---\\na: 1\\n---"}'),
        ("POST /api/repos/create", b'{"name":"x","organization":"org","type":"model","visibility":"private"}'),
        ("POST /api/repos/move", b'{"fromRepo":"org/x","toRepo":"org/y"}'),
        ("DELETE /api/repos/delete", b'{"name":"y","organization":"org"}'),
        ("GET /org/digits/resolve/main/a", b""),
        ("HEAD /org/digits/resolve/main/a", b""),
    ):
        head = f"{line} HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-1\r\nIf-None-Match: *"
        yield f"{head}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        yield (
            f"{line} HTTP/1.1\r\nhost:[::1]:80\r\ntransfer-encoding: chunked\r\n\r\n{len(body):x}\r\n".encode()
            + body
            + (b"\r\n0\r\n\r\n" if body else b"\r\n")
        )


_PIECES = (
    *(
        b"%00",
        b"%ff",
        b"%2F",
        b"%2e%2e",
        b"%ed%a0%80",
        b"..",
        b"/",
        b"?",
        b"&",
        b"=",
        b"main",
        b"refs%2Fheads%2F",
        b"org",
        b"digits",
    ),
    *(
        b"limit=",
        b"cursor=",
        b"filter=",
        b"sort=lastModified",
        b"full=1",
        b"expand=true",
        b"recursive=true",
        b"a",
        b"b/c",
    ),
    *(
        b"9" * 30,
        b"-1",
        b"1e999",
        b"null",
        b"true",
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\\ud800",
        b"\\",
        b"\n",
        b"\x00",
    ),
    *(
        b'"path":',
        b'"content":',
        b'"key":"deletedFolder"',
        b'"value":',
        b"\xc3\xbc",
        b"\xff",
        b"bytes=",
        b"-",
        b"*",
        b'W/"',
    ),
)


def mutated(data: bytes, seed: int) -> bytes | None:
    """The same request with changed parts, still framed as one: most others do not get past its parser."""
    draw = random.Random(seed)
    head, blank, body = data.partition(b"\r\n\r\n")
    line, *headers = head.split(b"\r\n")
    words = line.split(b" ")
    if not blank or len(words) != 3:
        return None
    framed = (b"content-length", b"transfer-encoding", b"host")
    parts = [words[1], *(one for one in headers if not one.lower().startswith(framed)), body]
    for _ in range(draw.choice((1, 1, 2, 4))):
        number = draw.choice((0, 0, len(parts) - 1, len(parts) - 1, draw.randrange(len(parts))))
        part = parts[number]
        start = draw.randrange(len(part) + 1)
        parts[number] = part[:start] + draw.choice(_PIECES) + part[start + draw.choice((0, 0, 1, 5)) :]
    method = draw.choice((words[0],) * 9 + (b"GET", b"POST", b"PUT", b"DELETE", b"HEAD"))
    *kept, body = parts[1:]
    lines = [b" ".join((method, parts[0], b"HTTP/1.1")), b"Host: localhost", *kept, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@cache
def _served() -> tuple[Any, Registry, asyncio.AbstractEventLoop]:
    folder = target.scratch(Path("/tmp")).with_suffix(".registry")
    stack = ExitStack()
    atexit.register(lambda: (stack.close(), shutil.rmtree(folder, ignore_errors=True)))
    limits = Limits(file_bytes=10_000, commit_bytes=20_000, commit_files=50, commit_folders=50)
    registry = stack.enter_context(opened(folder, limits=limits, rules=Rules(open_while_no_tokens=True)))
    loop = asyncio.new_event_loop()
    stack.callback(loop.close)
    return application(registry), registry, loop


def _restore(registry: Registry) -> None:
    with registry.database.read() as db:
        known = repos.find(db, "org", "digits")
    if known is None:
        registry.committer.create("org", "digits", lambda _: "local", private=False)


def one(data: bytes) -> None:
    """Serve it as uvicorn does, whose parser says what is a request."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    connection.receive_data(b"")
    head, body = None, b""
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage | h11.ConnectionClosed):
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                break
    except h11.RemoteProtocolError:
        pass  # a body that is cut is served as far as it goes
    if head is None:
        return
    app, registry, loop = _served()
    _restore(registry)
    statuses = loop.run_until_complete(asyncio.wait_for(_answer(app, head, body, connection), SECONDS))
    if len(statuses) != 1 or not 200 <= statuses[0] < 500:
        raise AssertionError(f"answered with {statuses}")


async def _answer(app: Any, head: h11.Request, body: bytes, connection: h11.Connection) -> list[int]:
    raw_path, _, query = head.target.partition(b"?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": head.http_version.decode(),
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "scheme": "http",
        "method": head.method.decode("ascii"),
        "root_path": "",
        "path": unquote(raw_path.decode("ascii")),
        "raw_path": raw_path,
        "query_string": query,
        "headers": [(name.lower(), value) for name, value in head.headers],
        "state": {},
    }
    ended = connection.their_state is not h11.SEND_BODY and connection.their_state is not h11.ERROR
    coming = [{"type": "http.request", "body": body, "more_body": not ended}]
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        if coming:
            return coming.pop()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
            for name, value in message["headers"]:
                if b"\n" in name + value or b"\r" in name + value:
                    raise AssertionError(f"a header of two lines: {name!r}: {value!r}")

    await app(scope, receive, send)
    return statuses
