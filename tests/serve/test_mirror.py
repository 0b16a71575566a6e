"""Pulls work through olah, an independent read-only mirror."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from serve_runs import ROOT, Client, add, ask, commit_body

import lottapack
from lottapack_serve import background

OLAH = ROOT / ".venv-olah" / "bin" / "olah-cli"
pytestmark = pytest.mark.skipif(not OLAH.exists(), reason="missing: .venv-olah: make unit")


def lottapack_run(client: Client, *arguments: object) -> str:
    """Run our command as a client."""
    command = [sys.executable, "-m", "lottapack_cli", *map(str, arguments)]
    done = subprocess.run(
        command, env=client.environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def mirrored(tmp_path: Path) -> Iterator[tuple[str, str, list]]:
    """Yield the addresses of a registry and its mirror, and the registry's log."""
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
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
        with subprocess.Popen(arguments, cwd=tmp_path, env=plain, stdout=output, stderr=output) as process:
            try:
                end = time.monotonic() + 60
                while not answers(port):
                    assert process.poll() is None and time.monotonic() < end, (tmp_path / "olah.log").read_text()
                    time.sleep(0.1)
                yield running.url, f"http://{there}", log
            finally:
                process.terminate()
                process.wait(timeout=300)


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


def test_our_own_pull_works_through_a_mirror(mirrored, tmp_path):
    registry, mirror, log = mirrored
    pack = tmp_path / "digits.lotta.safetensors"
    model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    lottapack.pack(lottapack.scaffold(model, seed=1, rank=2), pack)
    lottapack_run(Client(registry, tmp_path / "pusher"), "push", pack, "org/digits", "--tag", "v1")
    pulled = json.loads(lottapack_run(Client(mirror, tmp_path / "home"), "pull", "org/digits@v1", "--json"))
    assert Path(pulled["path"]).read_bytes() == pack.read_bytes()
    fetched = sum(one.sent for one in log)
    json.loads(lottapack_run(Client(mirror, tmp_path / "other"), "pull", "org/digits@v1", "--json"))
    assert sum(one.sent for one in log) - fetched < pack.stat().st_size
