"""An OCI registry in this process, whose answers a test replaces."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, bytes, dict[str, str]]


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Fake:
    """A registry of one repository, ``o/m``.

    ``odd``: returns another answer to a request, or None. ``asked``: method, path and Authorization of each request.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.odd: Callable[[str, str, str | None], Answer | None] = lambda method, path, told: None
        self.asked: list[tuple[str, str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # else the head and the content are two packets, and the second one waits

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked = (self.command, self.path, self.headers["Authorization"])
                outer.asked.append(asked)
                status, content, headers = outer.odd(*asked) or outer.answer(self.command, self.path, body)
                with suppress(ConnectionError):
                    self.send_response(status)
                    for name, value in {"Content-Length": str(len(content)), **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(content)

            do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def reference(self, tag: str = "v1") -> str:
        return f"oci://{self.host}/o/m:{tag}"

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Return the answer of a registry that keeps to the specification."""
        parts = urlsplit(path)
        kind, _, name = parts.path.removeprefix("/v2/o/m/").partition("/")
        if parts.path == "/v2/_catalog":
            return 200, b'{"repositories": ["o/m"]}', {}
        if kind == "tags":
            tags = sorted(tag for tag in self.manifests if not tag.startswith("sha256:"))
            return 200, json.dumps({"tags": tags}).encode(), {}
        if method == "POST":
            return 202, b"", {"Location": "/v2/o/m/blobs/uploads/1"}
        if method == "PUT" and kind == "blobs":
            self.blobs[parse_qs(parts.query)["digest"][0]] = body
            return 201, b"", {}
        if method == "PUT":
            self.manifests[name] = self.manifests[digest_of(body)] = body
            return 201, b"", {"Docker-Content-Digest": digest_of(body)}
        content = (self.manifests if kind == "manifests" else self.blobs).get(name)
        return (404, b"", {}) if content is None else (200, content, {"Docker-Content-Digest": digest_of(content)})

    def lose(self, content: bytes) -> None:
        """Remove a blob, as a registry's own cleaning may do."""
        del self.blobs[digest_of(content)]


@contextmanager
def fake() -> Iterator[Fake]:
    """Start a registry; stop it at the end."""
    registry = Fake()
    try:
        yield registry
    finally:
        registry.server.shutdown()
        registry.server.server_close()
