"""Debian's docker-registry on loopback: open, behind a password, or behind a token server of the tests' own."""

import base64
import json
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

USER, PASSWORD = "writer", "correct horse"
BCRYPT = "$2b$04$ujytmYr2kr0G73Yv8/eaiu4fUwqlzzGQ6pIxf/ZdKShHKGOsWmwFO"
"""The bcrypt hash of PASSWORD, with few rounds."""


Settings = dict[str, dict[str, str]]


def needs(*programs: str) -> None:
    """Skip a test if a program is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"missing: {', '.join(missing)}")


def certify(folder: Path, name: str) -> tuple[Path, Path]:
    """A new key and a certificate for a host's name, signed with it."""
    needs("openssl")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return key, certificate


class Registry:
    """A docker-registry process. ``host``: with its port, which stays over restarts."""

    def __init__(self, folder: Path, auth: Settings | None = None, tls: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.storage = folder / "storage"
        self._auth = auth
        self._tls = tls
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        config = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.storage)}, "delete": {"enabled": True}},
            "http": {"addr": f"127.0.0.1:{self._port}", "secret": "of the tests"}
            | ({"tls": self._tls} if self._tls else {}),
        } | ({"auth": self._auth} if self._auth else {})
        path, log = self.folder / "config.yml", self.folder / "registry.log"
        path.write_text(json.dumps(config))  # JSON is YAML
        with log.open("wb") as output:
            self._process = subprocess.Popen(["docker-registry", "serve", str(path)], stdout=output, stderr=output)
        for _ in range(200):
            found = re.search(r"listening on 127\.0\.0\.1:(\d+)[\", ]", log.read_text())
            if found:
                self._port = int(found[1])
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"docker-registry did not start: {log.read_text()[-2000:]}")

    def stop(self, sign: int = signal.SIGKILL) -> None:
        if self._process:
            self._process.send_signal(sign)
            self._process.wait(30)
            self._process = None

    def blob(self, digest: str) -> Path:
        """Return the path of a blob in the registry's storage."""
        sha256 = digest.removeprefix("sha256:")
        return self.storage / "docker/registry/v2/blobs/sha256" / sha256[:2] / sha256 / "data"

    def tags(self, repository: str) -> list[str]:
        """Return the tags in the registry's storage."""
        folder = self.storage / "docker/registry/v2/repositories" / repository / "_manifests/tags"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@contextmanager
def running(folder: Path, auth: Settings | None = None, tls: dict[str, str] | None = None) -> Iterator[Registry]:
    """Start a registry; stop it at the end."""
    needs("docker-registry")
    registry = Registry(folder, auth, tls)
    try:
        yield registry
    finally:
        registry.stop()


class TokenServer:
    """Gives bearer tokens by user and right, as distribution's specification says; signs them with openssl."""

    rights = {USER: ("pull", "push"), "reader": ("pull",), "": ()}  # noqa: RUF012

    def __init__(self, folder: Path) -> None:
        self.key, self.certificate = certify(folder, "tests")
        self.given: list[tuple[str, str]] = []
        """User and scope of each token."""
        self.lifetime = 300.0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def auth(self) -> Settings:
        """Return the registry's configuration for these tokens."""
        realm = f"http://127.0.0.1:{self._server.server_port}/token"
        pairs = {"realm": realm, "service": "tests", "issuer": "tests", "rootcertbundle": str(self.certificate)}
        return {"token": pairs}

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                user, _, password = base64.b64decode(self.headers.get("Authorization", "")[6:]).decode().partition(":")
                if user not in server.rights or (user and password != PASSWORD):
                    self.send_error(401)
                    return
                asked = parse_qs(urlsplit(self.path).query)
                scope = asked.get("scope", [""])[0]
                server.given.append((user, scope))
                body = json.dumps({"token": server.token(user, scope)}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def token(self, user: str, scope: str) -> str:
        """Return a signed token for those requested actions that the user may do."""
        access = []
        if scope:
            kind, name, actions = scope.split(":")
            allowed = [action for action in actions.split(",") if action in self.rights[user]]
            access = [{"type": kind, "name": name, "actions": allowed}]
        certificate = "".join(self.certificate.read_text().splitlines()[1:-1])
        now = time.time()
        # The registry grants 60 seconds more.
        expiry = int(now + self.lifetime - 60)
        claims = {"iss": "tests", "sub": user, "aud": "tests", "exp": expiry, "nbf": int(now) - 90, "access": access}
        head = {"typ": "JWT", "alg": "RS256", "x5c": [certificate]}
        signed = b".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        command = ["openssl", "dgst", "-sha256", "-sign", str(self.key)]
        signature = subprocess.run(command, input=signed, check=True, capture_output=True, timeout=300).stdout
        return (signed + b"." + _base64(signature)).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
