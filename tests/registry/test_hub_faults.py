"""Real faults between client and Hub: each has a message, a next step and an exit code."""

import errno
import hashlib
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import SoftFileLock, Timeout
from hub_runs import Hub, Result, Run, lead_to, make_pack
from huggingface_hub import constants
from huggingface_hub.utils import _http
from proxy import Proxy

import lottapack
from lottapack.registry import downloading, hub_http
from lottapack.registry.locking import acquired

REPO = "my-org/digits"
CUTS = [round(random.Random(seed).random(), 3) for seed in range(12)]
"""Where connections break: parts of all bytes that a whole push or pull moves, headers included."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the waits between attempts (the client's own take up to half a minute)."""
    for module in (downloading, _http):
        monkeypatch.setattr(module, "time", SimpleNamespace(**{**vars(module.time), "sleep": lambda seconds: None}))


@pytest.fixture
def proxy(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Put a proxy between client and server."""
    with Proxy(hub.url) as between:
        lead_to(monkeypatch, between.url, hub.home)
        yield between


def refused(result: Result, code: int, *words: str) -> None:
    assert (result.code, result.out) == (code, "")
    assert "Traceback" not in result.err
    assert [word for word in words if word not in result.err] == []
    assert len(result.err.splitlines()) >= 2  # what is wrong, and what to do next


def in_cache(hub: Hub) -> list[str]:
    """Return the files in the cache that a pull could take for a pack."""
    found = [path for path in hub.cache.rglob("*") if path.is_file() and path.parent.name in ("blobs", "snapshots")]
    return [path.name for path in found if path.suffix != ".incomplete"]


def test_a_byte_flipped_in_the_servers_store(hub: Hub, pack: Path, run: Run) -> None:
    right = pack.read_bytes()
    lottapack.push(pack, REPO, tag="v1")
    wrong = right[:100] + bytes([right[100] ^ 1]) + right[101:]
    stored = hub.store_file(right)
    stored.chmod(0o600)
    stored.write_bytes(wrong)
    hub.served.clear()
    digests = [hashlib.sha256(content).hexdigest() for content in (wrong, right)]
    refused(run("pull", f"{REPO}@v1"), 1, *digests, "removed from the cache", "ask its operator to repair")
    assert len([served for served in hub.served if served.method == "GET" and "/resolve/" in served.path]) == 2
    assert in_cache(hub) == []
    with pytest.raises(lottapack.errors.IntegrityError):
        lottapack.load(f"{REPO}@v1")
    stored.write_bytes(right)
    assert run("pull", f"{REPO}@v1", "--quiet") == (0, "", "")


@pytest.mark.parametrize("part", CUTS)
def test_a_pull_that_is_cut_off_is_finished_by_the_next(
    part: float, hub: Hub, pack: Path, proxy: Proxy, run: Run, impatient: None
) -> None:
    lottapack.push(pack, REPO)
    begin = proxy.passed["down"]
    lottapack.pull(REPO)
    whole = proxy.passed["down"] - begin
    shutil.rmtree(hub.cache)
    proxy.after("down", int(part * whole))
    refused(run("pull", REPO), 3, "connection to", "HF_ENDPOINT", "run the same command again")
    assert in_cache(hub) == []
    proxy.heal()
    assert lottapack.pull(REPO).path.read_bytes() == pack.read_bytes()


@pytest.mark.parametrize("part", CUTS)
def test_a_push_that_is_cut_off_is_finished_by_the_next(
    part: float, hub: Hub, pack: Path, proxy: Proxy, run: Run, impatient: None
) -> None:
    begin = proxy.passed["up"]
    lottapack.push(pack, "my-org/before", tag="v1")
    whole = proxy.passed["up"] - begin
    proxy.after("up", int(part * whole))
    refused(run("push", pack, REPO, "--tag", "v1"), 3, "run the same command again")
    if hub.api.repo_exists(REPO):  # whole or not at all
        names = set(hub.api.list_repo_files(REPO))
        assert names & {pack.name, "README.md"} in (set(), {pack.name, "README.md"})
    proxy.heal()
    again = lottapack.push(pack, REPO, tag="v1")
    assert lottapack.pull(f"{REPO}@v1").sha256 == again.sha256 == hashlib.sha256(pack.read_bytes()).hexdigest()
    assert len(hub.api.list_repo_commits(REPO)) == 2


def test_an_answer_that_is_lost_is_not_pushed_twice(
    hub: Hub, pack: Path, proxy: Proxy, run: Run, impatient: None
) -> None:
    """The commit succeeds, and the connection breaks before the answer."""
    hub.api.create_repo(REPO)
    seen = len(hub.served)

    def committed() -> bool:
        return any(served.path.endswith("/commit/main") for served in hub.served[seen:])

    steps = iter(range(100))
    while not committed():  # each round lets one more answer through
        proxy.heal()
        proxy.after("down", 100 * next(steps))
        refused(run("push", pack, REPO), 3, "run the same command again")
    proxy.heal()
    result = lottapack.push(pack, REPO)
    assert result.sent == ()
    assert len(hub.api.list_repo_commits(REPO)) == 2


ANSWERS = [
    (403, {}, 3, "lacks the right", "hf auth login"),
    (404, {}, 3, "the name does not exist", "HF_ENDPOINT"),
    (404, {"X-Error-Code": "RepoNotFound"}, 3, "the repository does not exist", "hf auth login"),
    (403, {"X-Error-Code": "GatedRepo"}, 3, "its owner must grant access", "Ask for access"),
    (409, {}, 3, "came first", "push again"),
    (412, {}, 3, "came first", "push again"),
    (413, {}, 3, "too large", "higher limit"),
    (418, {}, 3, "a refusal by", "message says what to change"),
    (429, {}, 3, "too many requests", "Wait some minutes"),
    (500, {}, 3, "a failure inside", "Try again later"),
    (503, {}, 3, "a failure inside", "Try again later"),
    (507, {}, 3, "the disk is full", "the registry's operator"),
    (200, {}, 3, "does not answer like a Hub", "names a Hub"),
]


@pytest.mark.parametrize(("status", "headers", "code", "words", "then"), ANSWERS)
def test_each_answer_has_its_words(
    status: int,
    headers: dict[str, str],
    code: int,
    words: str,
    then: str,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        lead_to(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}", tmp_path)
        refused(run("pull", REPO), code, words, then)
        server.shutdown()
        thread.join()


def test_nobody_listens(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, pack: Path, impatient: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    lead_to(monkeypatch, f"http://127.0.0.1:{port}", tmp_path)
    for line in (["pull", REPO], ["push", pack, REPO], ["list", "my-org"], ["log", REPO]):
        refused(run(*line), 3, f"connection to http://127.0.0.1:{port} failed", "Check the network")
    for endpoint in ("nonsense", "http://[bad"):
        lead_to(monkeypatch, endpoint, tmp_path)
        refused(run("pull", REPO), 2, "HF_ENDPOINT")


def test_what_is_not_there(hub: Hub, pack: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lottapack.push(pack, REPO, tag="v1")
    missing = "my-org/nothing"
    refused(run("pull", missing), 3, missing, "hf auth login")
    refused(run("log", missing), 3, missing, "hf auth login")
    refused(
        run("pull", f"{REPO}@v2"), 3, f"{REPO}@v2", "the branch, tag or commit does not exist", f"lottapack log {REPO}"
    )
    refused(run("pull", f"{REPO}@{'0' * 40}"), 3, "the branch, tag or commit does not exist")
    refused(run("log", f"{REPO}@v2"), 3, "the branch, tag or commit does not exist")
    monkeypatch.setenv("HF_TOKEN", hub.server.token("reader", "read"))
    result = run("pull", missing)
    refused(result, 3, "the repository does not exist", "the token needs the right")
    assert "hf auth login" not in result.err


def test_tokens(hub: Hub, pack: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write, read = hub.server.token("writer", "write"), hub.server.token("reader", "read")
    monkeypatch.setenv("HF_TOKEN", write)
    assert run("push", pack, REPO, "--private", "--quiet").code == 0
    monkeypatch.setenv("HF_TOKEN", read)
    assert run("pull", REPO, "--quiet").code == 0
    refused(run("push", make_pack(pack, seed=43), REPO), 3, "lacks the right", "Use a token that has it")
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    for line in (["pull", REPO], ["push", pack, REPO], ["log", REPO]):
        refused(run(*line), 3, "the token was not accepted", "hf auth login")
    monkeypatch.delenv("HF_TOKEN")
    for line in (["pull", REPO], ["push", pack, REPO], ["log", REPO]):
        result = run(*line)
        refused(result, 3, REPO, "hf auth login")
        assert re.search("private|no token", result.err)


def test_a_cache_that_cannot_be_written(hub: Hub, pack: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lottapack.push(pack, REPO)
    hub.home.mkdir(exist_ok=True)
    (hub.home / "file").write_text("no folder")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub.home / "file"))
    refused(run("pull", REPO), 2, "HF_HOME")


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("../../..", ".. in it names a folder"),
        ("a/../../../..", ".. in it names a folder"),
        ("/tmp", "it is an absolute path"),
        ("a/", "a part of it is empty"),
        ("..\\..\\..", "a control character or one of"),
    ],
)
def test_names_that_leave_the_cache(
    folder: str, why: str, hub: Hub, pack: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A server that redirects to another address of this machine."""
    from lottapack.registry import hub_files

    assert run("push", pack, REPO).code == 0
    real = hub_files.contents

    def lying(repo: str, revision: str | None) -> hub_files.Contents:
        there = real(repo, revision)
        [name] = there.packs()
        return hub_files.Contents(there.commit, {f"{folder}/{name}": there.files[name]}, there.private)

    monkeypatch.setattr(hub_files, "contents", lying)
    before = sorted(tmp_path.rglob("*.lotta.safetensors"))
    result = run("pull", REPO)
    assert result.code == 3
    words = " ".join(result.err.split())
    assert "cannot be the name of a file" in words and why in words
    assert sorted(tmp_path.rglob("*.lotta.safetensors")) == before


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SSL_CERT_FILE", "/nowhere/certificates.pem", "proxies and certificates of this environment"),
        ("HTTP_PROXY", "nonsense://x", "Unknown scheme for proxy URL"),
    ],
)
def test_an_environment_that_allows_no_connection(
    name: str, value: str, words: str, hub: Hub, pack: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(hub_http, "get_session", _http.default_client_factory)  # the client is made again
    for call in (("pull", REPO), ("push", pack, REPO)):
        refused(run(*call), 3, words.split()[0], name)


@pytest.mark.parametrize("reference", ["{url}/my-org/digits", "oci://127.0.0.1:9/my-org/digits:v1"])
def test_a_user_without_a_home(reference: str, hub: Hub, pack: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lottapack.push(pack, REPO)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("LOTTAPACK_CACHE", "~nobody-of-that-name/cache")
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    refused(run("pull", reference.format(url=hub.url)), 2, "LOTTAPACK_CACHE")


def test_another_servers_cache_is_moved_by_its_own_variable(
    hub: Hub, pack: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lottapack.push(pack, REPO)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("LOTTAPACK_CACHE", str(pack))
    refused(run("pull", f"{hub.url}/{REPO}"), 2, "Not a directory", "LOTTAPACK_CACHE")


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/?a", "http://127.0.0.1:9/#a", "http://127.0.0.1:9/ ", "http://u:secret@a"]
)
def test_what_is_no_address_of_a_server(address: str, hub: Hub, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", address)
    result = run("pull", REPO)
    refused(result, 2, "HF_ENDPOINT", "is not the address of a server")
    assert "secret" not in result.err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks files by other means")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks(number: int, hub: Hub, pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some network file systems are mounted."""
    import fcntl

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    lottapack.push(pack, REPO)
    with monkeypatch.context() as patch:  # the server's own lock is released without it
        patch.setattr(fcntl, "flock", flock)
        assert lottapack.pull(REPO).path.read_bytes() == pack.read_bytes()
        held = acquired(hub.home / "x.lock")
        with pytest.raises(Timeout):
            SoftFileLock(hub.home / "x.lock.soft").acquire(timeout=0.1)
        held.release()
        acquired(hub.home / "x.lock").release()


@pytest.mark.parametrize("command", [["pull", REPO], ["log", REPO], ["list", "my-org"]], ids=lambda words: words[0])
def test_a_number_that_the_client_cannot_read(command: list[str], hub: Hub) -> None:
    program = [sys.executable, "-m", "lottapack_cli", *command]
    environment = hub.environment(HF_HUB_ETAG_TIMEOUT="ten")
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120, check=False)
    refused(Result(done.returncode, done.stdout, done.stderr), 2, "'ten'", "HF_HUB_ETAG_TIMEOUT")
