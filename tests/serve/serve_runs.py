"""Send raw requests to a registry, run real clients in processes, start the real command."""

import base64
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]


class Answer(NamedTuple):
    """``headers``: names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        """Return status and code of a refusal; check that JSON body and headers agree."""
        assert self.json["error"]
        assert len(self.headers["x-error-message"]) == len(self.json["error"])
        return self.status, self.headers.get("x-error-code", "")


def ask(
    url: str,
    method: str,
    path: str,
    body: object = None,
    *,
    token: str = "",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request. ``path`` is sent verbatim; ``body``: bytes, or a value for JSON."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=300)
    try:
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        told = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, path, content, {**told, **(headers or {})})
        answer = connection.getresponse()
        return Answer(answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def commit_body(*operations: Mapping[str, Any], title: str = "test", parent: str | None = None) -> bytes:
    """Return the body of a commit, as clients send it."""
    header = {"summary": title, "description": "", **({"parentCommit": parent} if parent else {})}
    lines = [{"key": "header", "value": header}, *operations]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def add(path: str, content: bytes) -> dict[str, Any]:
    """Return the line of a file in a commit."""
    encoded = base64.b64encode(content).decode()
    return {"key": "file", "value": {"content": encoded, "path": path, "encoding": "base64"}}


class Client(NamedTuple):
    """A client with its own cache: its HF_HOME and its Python."""

    url: str
    home: Path
    python: str = sys.executable
    token: str = ""
    more: tuple[tuple[str, str], ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
        token = {"HF_TOKEN": self.token} if self.token else {}
        told = {"HF_ENDPOINT": self.url, "HF_HOME": str(self.home), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        return {**plain, **told, **token, **dict(self.more)}

    def start(self, code: str, *arguments: object) -> "subprocess.Popen[str]":
        """Run Python code with the client installed."""
        command = [self.python, "-W", "error", "-c", code, *map(str, arguments)]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(command, env=self.environment, text=True, **pipes)

    def run(self, code: str, *arguments: object) -> str:
        """Run Python code to its end; returns what it printed. It must succeed."""
        with self.start(code, *arguments) as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return out.strip()

    def hf(self, *arguments: object) -> str:
        """Run the client's command line."""
        command = [str(Path(self.python).with_name("hf")), *map(str, arguments)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


class Server(NamedTuple):
    """``lottapack serve`` in a process."""

    process: "subprocess.Popen[str]"
    url: str

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(timeout=300)


@contextmanager
def command(root: Path, *options: object, port: int = 0, descriptors: int | None = None) -> Iterator[Server]:
    """Run the real command while the block runs. ``descriptors``: the most files it may hold open."""
    limited = ["sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh"] if descriptors else []
    started = [
        *limited,
        sys.executable,
        "-m",
        "lottapack_cli",
        "serve",
        "--root",
        str(root),
        "--port",
        str(port),
        "--json",
    ]
    with subprocess.Popen([*started, *map(str, options)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield Server(process, json.loads(process.stdout.readline())["url"])
        finally:
            process.kill()


def files_in(root: Path) -> list[str]:
    """Return the files in a registry's folder beside the index: contents and uploads."""
    return sorted(str(path.relative_to(root)) for name in ("blobs", "incoming") for path in (root / name).rglob("*")
                  if path.is_file())  # fmt: skip
