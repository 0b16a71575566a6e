"""A read-only mirror that is not ours, olah, in front of the registry: pulls through it work."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serve_runs import ROOT, Client, add, ask, commit_body

from lottapack.serve import background

OLAH = ROOT / ".venv-olah" / "bin" / "olah-cli"
pytestmark = pytest.mark.skipif(not OLAH.exists() and os.environ.get("CI") != "true", reason="run by make test")


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def mirrored(tmp_path: Path) -> Iterator[tuple[str, str, list]]:
    """Addresses of a registry and of its mirror, and what the registry served."""
    log: list = []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with background(tmp_path / "registry", log=log.append) as running, (tmp_path / "olah.log").open("w") as output:
        ask(running.url, "POST", "/api/repos/create", {"name": "digits", "organization": "org"})
        here, there = running.url.removeprefix("http://"), f"127.0.0.1:{port}"
        options = {
            "host": "127.0.0.1", "port": port, "hf-scheme": "http", "hf-netloc": here, "hf-lfs-netloc": here,
            "mirror-netloc": there, "mirror-lfs-netloc": there, "repos-path": tmp_path / "repos",
            "log-path": tmp_path / "logs",
        }  # fmt: skip
        arguments = [str(OLAH), *(f"--{name}={value}" for name, value in options.items())]
        with subprocess.Popen(arguments, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT) as process:
            try:
                end = time.monotonic() + 60
                while not answers(port):
                    assert process.poll() is None and time.monotonic() < end, (tmp_path / "olah.log").read_text()
                    time.sleep(0.1)
                yield running.url, f"http://{there}", log
            finally:
                process.terminate()
                process.wait(timeout=30)


PULL = """
import sys
from huggingface_hub import hf_hub_download, snapshot_download
print(hf_hub_download("org/digits", "sub/model.lotta.safetensors", revision="v1"))
print(snapshot_download("org/digits", revision="v1"))
"""


def test_pulls_work_through_a_mirror(mirrored, tmp_path):
    registry, mirror, log = mirrored
    content = os.urandom(9_000_000)  # more than one of the mirror's blocks
    body = commit_body(add("sub/model.lotta.safetensors", content), add("README.md", b"# x"))
    assert ask(registry, "POST", "/api/models/org/digits/commit/main", body).status == 200
    assert ask(registry, "POST", "/api/models/org/digits/tag/main", {"tag": "v1"}).status == 200
    path, folder = Client(mirror, tmp_path / "home").run(PULL).splitlines()
    assert Path(path).read_bytes() == content
    assert (Path(folder) / "README.md").read_bytes() == b"# x"
    fetched = sum(one.sent for one in log)
    assert fetched > len(content)
    # The second client gets the contents from the mirror.
    path, _ = Client(mirror, tmp_path / "other").run(PULL).splitlines()
    assert Path(path).read_bytes() == content
    assert sum(one.sent for one in log) - fetched < 100_000
    assert [one for one in log if one.status >= 500] == []
