"""Real faults: racing writers, a killed server, broken connections, a full disk."""

import contextlib
import http.client
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serve_runs import Client, add, ask, command, commit_body, files_in

from lottapack_serve import background, check, traffic

REPO = "/api/models/org/digits"
COMMIT = f"{REPO}/commit/main"


def make_repo(url: str) -> None:
    assert ask(url, "POST", "/api/repos/create", {"name": "digits", "organization": "org"}).status == 200


def state(url: str) -> tuple[object, object]:
    """Return the history and the files of the repository."""
    commits = [one["id"] for one in ask(url, "GET", f"{REPO}/commits/main").json]
    return commits, ask(url, "GET", f"{REPO}/tree/main?recursive=true").json


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


RACE = """
import sys
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError
writer, with_parent = sys.argv[1], sys.argv[2] == "parent"
api = HfApi()
print("ready", flush=True)
sys.stdin.readline()
for number in range(10):
    own = CommitOperationAdd(f"{writer}/{number}", f"{writer} {number}".encode())
    operations = [own, CommitOperationAdd("same", b"=")]
    parent = api.model_info("org/digits").sha if with_parent else None
    title = f"{writer} {number}"
    try:
        print(api.create_commit("org/digits", operations, commit_message=title, parent_commit=parent).oid)
    except HfHubHTTPError as fault:
        assert with_parent and fault.response.status_code == 412, fault
        print("412")
"""


@pytest.mark.parametrize("mode", ["free", "parent"])
def test_forty_racing_commits_from_four_processes(tmp_path, mode):
    with command(tmp_path / "registry") as server, contextlib.ExitStack() as stack:
        make_repo(server.url)
        starts = [Client(server.url, tmp_path / f"home{number}").start(RACE, number, mode) for number in range(4)]
        clients = [stack.enter_context(client) for client in starts]
        for client in clients:
            assert client.stdout and client.stdout.readline() == "ready\n"
        for client in clients:
            assert client.stdin
            client.stdin.write("go\n")
            client.stdin.flush()
        results: list[str] = []
        for client in clients:
            out, err = client.communicate(timeout=120)
            assert client.returncode == 0, err
            results += out.split()
        landed = [oid for oid in results if oid != "412"]
        history = ask(server.url, "GET", f"{REPO}/commits/main").json
        assert len(results) == 40
        # The history is linear and holds each confirmed commit once.
        assert sorted(landed) == sorted(one["id"] for one in history[:-1])
        assert len(landed) == 40 if mode == "free" else 0 < len(landed) < 40
        made = {one["title"].replace(" ", "/") for one in history[:-1]}
        files = {
            one["path"]
            for one in ask(server.url, "GET", f"{REPO}/tree/main?recursive=true").json
            if one["type"] == "file"
        }
        assert files == made | {"same"}
        assert len(files_in(tmp_path / "registry")) == len(files)
    with contextlib.closing(sqlite3.connect(tmp_path / "registry" / "registry.sqlite3")) as db:
        assert db.execute("SELECT count(*), count(DISTINCT parent) FROM commits").fetchone() == (
            len(landed) + 1,
            len(landed),
        )
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def send_part(url: str, path: str, body: bytes, count: int) -> socket.socket:
    """Send a commit's first ``count`` bytes and keep the connection open."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=300)
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    connection.sendall(body[:count])
    return connection


def test_a_server_killed_while_a_push_comes_in_has_no_trace_of_it(tmp_path):
    root, content = tmp_path / "registry", os.urandom(20_000_000)
    with command(root) as server:
        make_repo(server.url)
        ask(server.url, "POST", COMMIT, commit_body(add("old", b"old")))
        before, stored = state(server.url), files_in(root)
        body = commit_body(add("new", content))
        with contextlib.closing(send_part(server.url, COMMIT, body, len(body) * 2 // 3)):
            wait_for(lambda: any((root / name).stat().st_size > 10_000_000 for name in files_in(root)))
            server.kill()
    assert files_in(root) != stored  # it was in the middle
    with command(root) as server:
        assert (state(server.url), files_in(root)) == (before, stored)
        assert ask(server.url, "POST", COMMIT, body).status == 200
        assert ask(server.url, "GET", "/org/digits/resolve/main/new").body == content


@pytest.mark.parametrize("seed", range(5))
def test_a_server_killed_at_any_moment_keeps_what_it_confirmed(tmp_path, seed):
    root, confirmed = tmp_path / "registry", []

    def content(number: int) -> bytes:
        return f"{number} ".encode() * 1000

    def push(url: str) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):  # how it ends
            for number in range(10_000):
                answer = ask(url, "POST", COMMIT, commit_body(add(f"f{number}", content(number))))
                confirmed.append(answer.json["commitOid"])

    with command(root) as server:
        make_repo(server.url)
        pusher = threading.Thread(target=push, args=(server.url,))
        pusher.start()
        wait_for(lambda: len(confirmed) >= 5)
        time.sleep(random.Random(seed).uniform(0, 0.1))
        server.kill()
        pusher.join()
    with command(root) as server:
        history = [one["id"] for one in ask(server.url, "GET", f"{REPO}/commits/main").json][-2::-1]
        # The last commit may exist although its answer was lost.
        assert history[: len(confirmed)] == confirmed
        assert len(history) - len(confirmed) in (0, 1)
        for number in range(len(history)):
            assert ask(server.url, "GET", f"/org/digits/resolve/main/f{number}").body == content(number)
        assert len(files_in(root)) == len(history)
    assert check(root).damaged == ()


def test_connections_cut_at_random_bytes_leave_nothing(tmp_path):
    log = []
    with background(tmp_path / "registry", log=log.append) as running:
        make_repo(running.url)
        before = state(running.url)
        body = commit_body(add("a", os.urandom(1_500_000)), add("b", os.urandom(500_000)))
        generator = random.Random(7)
        cuts = [generator.randrange(len(body)) for _ in range(20)] + [0, 1, len(body) - 1]
        asked = len(log)
        for cut in cuts:
            send_part(running.url, COMMIT, body, cut).close()
        wait_for(lambda: len(log) == asked + len(cuts))
        assert (files_in(running.root), state(running.url)) == ([], before)
        assert ask(running.url, "POST", COMMIT, body).status == 200
        commits, files = state(running.url)
        assert (len(commits), len(files), len(files_in(running.root))) == (len(before[0]) + 1, 2, 2)


def test_a_client_that_falls_silent_counts_as_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(traffic, "SILENCE", 0.2)
    log = []
    with background(tmp_path / "registry", log=log.append) as running:
        make_repo(running.url)
        body = commit_body(add("a", os.urandom(3_000_000)))
        with contextlib.closing(send_part(running.url, COMMIT, body, 2_000_000)) as silent:
            wait_for(lambda: len(files_in(running.root)) == 1)
            wait_for(lambda: files_in(running.root) == [])
            wait_for(lambda: len(log) == 2)
            assert silent.recv(1000).startswith(b"HTTP/1.1 400")
        # Does not apply to clients that wait for an answer.
        assert ask(running.url, "POST", COMMIT, body).status == 200


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell a process's memory")
def test_memory_does_not_grow_with_files(tmp_path):
    def peak() -> int:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    with command(tmp_path / "registry") as server:
        make_repo(server.url)
        assert ask(server.url, "POST", COMMIT, commit_body(add("a", os.urandom(1_000_000)))).status == 200
        assert len(ask(server.url, "GET", "/org/digits/resolve/main/a").body) == 1_000_000
        before = peak()
        assert ask(server.url, "POST", COMMIT, commit_body(add("b", os.urandom(100_000_000)))).status == 200
        assert len(ask(server.url, "GET", "/org/digits/resolve/main/b").body) == 100_000_000
        assert peak() - before < 20_000_000


PULL = """
import sys
from huggingface_hub import hf_hub_download
from huggingface_hub.utils import tqdm

class Held(tqdm):
    first = True

    def update(self, n=1):
        if Held.first:
            Held.first = False
            print("begun", flush=True)
            sys.stdin.readline()
        return super().update(n)

print(hf_hub_download("org/digits", "big", tqdm_class=Held))
"""


def test_a_pull_outlives_a_server_that_is_killed(tmp_path):
    """The stock client resumes when the server is back."""
    root, content, log = tmp_path / "registry", os.urandom(60_000_000), []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = Client(f"http://127.0.0.1:{port}", tmp_path / "home")
    with command(root, port=port) as server:
        make_repo(server.url)
        assert ask(server.url, "POST", COMMIT, commit_body(add("big", content))).status == 200
        pull = client.start(PULL)
        assert pull.stdout and pull.stdout.readline() == "begun\n"
        server.kill()
    with pull, background(root, port=port, log=log.append):
        out, err = pull.communicate("go on\n", timeout=120)
    assert pull.returncode == 0, err
    assert "Trying to resume download" in err
    assert [one.method for one in log] == ["GET"]
    assert 0 < log[0].sent < len(content)
    assert Path(out.strip()).read_bytes() == content


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=8m", "lottapack-test", str(folder)]
    mounted = (
        shutil.which("mount") and subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0
    )
    if not mounted:
        pytest.skip("a small disk can only be mounted by root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_said_so_and_harms_nothing(small_disk):
    root = small_disk / "registry"
    with background(root) as running:
        make_repo(running.url)
        assert ask(running.url, "POST", COMMIT, commit_body(add("a", os.urandom(3_000_000)))).status == 200
        before, stored = state(running.url), files_in(root)
        answer = ask(running.url, "POST", COMMIT, commit_body(add("b", os.urandom(9_000_000))))
        assert answer.error == (507, "")
        assert "disk is full" in answer.json["error"]
        assert (state(running.url), files_in(root)) == (before, stored)
        # On a completely full disk even the index cannot grow; reading still works.
        with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(b"x" * 4096):
                pass
        assert ask(running.url, "POST", COMMIT, commit_body(add("c", b"small"))).error == (507, "")
        assert ask(running.url, "POST", "/api/repos/create", {"name": "other"}).error == (507, "")
        assert state(running.url) == before
        (small_disk / "filler").unlink()
        assert ask(running.url, "POST", COMMIT, commit_body(add("c", b"small"))).status == 200
        assert len(files_in(root)) == len(stored) + 1


def test_a_flipped_byte_is_found(tmp_path):
    root = tmp_path / "registry"
    with background(root) as running:
        make_repo(running.url)
        assert ask(running.url, "POST", COMMIT, commit_body(add("a", b"one"), add("b/c", b"two" * 1000))).status == 200
        assert check(root).damaged == ()
        [path] = [root / name for name in files_in(root) if (root / name).stat().st_size == 3000]
        data = bytearray(path.read_bytes())
        data[1234] ^= 1
        path.write_bytes(data)
        told: list[tuple[int, int]] = []
        found = check(root, lambda done, total: told.append((done, total)))
        assert [(one.fault, one.sha256, one.files) for one in found.damaged] == [
            ("changed", path.name, ("org/digits: b/c",))
        ]  # fmt: skip
        assert told[-1] == (3003, 3003)
        path.unlink()
        assert [one.fault for one in check(root).damaged] == ["missing"]
