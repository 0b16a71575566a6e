"""Hostile Hubs, over real sockets: they try for the user's files, memory, disk, time and token."""

import dataclasses
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hub_runs import lead_to, make_pack
from huggingface_hub import constants

import lottapack
from lottapack.errors import IntegrityError, NetworkError, OutputError, RegistryError
from lottapack.registry import downloading, hub_cache
from lottapack.registry.answers import name_fault

REPO, COMMIT, NAME = "o/m", "a" * 40, "a.lotta.safetensors"


class Hostile:
    """A server whose answers a test replaces. ``seen``: method, path, Authorization and Range of each request."""

    def __init__(self, content: bytes) -> None:
        self.content, self.sha256 = content, hashlib.sha256(content).hexdigest()
        self.seen: list[tuple[str, str, str | None, str | None]] = []
        self.info: Callable[[Any], None] = lambda handler: self.json(handler, self.repository())
        self.file: Callable[[Any], None] = lambda handler: self.send(handler, 200, self.content)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                pass

            def do_GET(self) -> None:
                outer.seen.append((self.command, self.path, self.headers["Authorization"], self.headers["Range"]))
                try:
                    (outer.file if "/resolve/" in self.path else outer.info)(self)
                except ConnectionError:
                    self.close_connection = True

            do_HEAD = do_POST = do_GET  # noqa: N815

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda request, address: None  # type: ignore[method-assign]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def repository(self, **files: Any) -> dict[str, Any]:
        pack = {"rfilename": NAME, "size": 1, "lfs": {"sha256": self.sha256, "size": len(self.content)}}
        return {"id": REPO, "sha": COMMIT, "siblings": [pack | files]}

    def send(self, handler: Any, status: int, body: bytes, length: bool = True, **headers: str) -> None:
        handler.send_response(status)
        if length:
            handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    def json(self, handler: Any, value: object, **headers: str) -> None:
        self.send(handler, 200, json.dumps(value).encode(), **headers)


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    (tmp_path / "pack").mkdir()
    server = Hostile(make_pack(tmp_path / "pack" / NAME).read_bytes())
    home = tmp_path / "home"
    lead_to(monkeypatch, server.url, home)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(downloading, "WAITS", (0.0, 0.0, 0.0))
    yield server
    server.close()


@contextmanager
def another() -> Iterator[Hostile]:
    server = Hostile(b"")
    try:
        yield server
    finally:
        server.close()


def cache() -> Path:
    return Path(constants.HF_HUB_CACHE)


@pytest.mark.parametrize("header", ["ETag", "X-Linked-ETag", "X-Repo-Commit"])
@pytest.mark.parametrize("there", [True, False])
def test_no_header_names_a_file(header: str, there: bool, hostile: Hostile, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    if there:
        victim.write_text("mine")
    target = "../" * 20 + str(victim).lstrip("/")
    hostile.file = lambda handler: hostile.send(handler, 200, hostile.content, **{header.replace("-", "_"): target})
    assert lottapack.pull(REPO).path.read_bytes() == hostile.content
    assert (victim.read_text() if victim.exists() else None) == ("mine" if there else None)


@pytest.mark.parametrize(
    "files",
    [
        {"lfs": {"sha256": "../../../victim", "size": 4}},
        {"lfs": {"sha256": "A" * 64, "size": 4}},
        {"lfs": {"sha256": "a" * 63, "size": 4}},
        {"lfs": None, "blobId": "../../../victim", "size": 4},
        {"lfs": None, "blobId": "a" * 64, "size": 4},
        {"lfs": {"sha256": "a" * 64, "size": -1}},
        {"lfs": {"sha256": "a" * 64, "size": 2**70}},
        {"rfilename": "../../../victim.lotta.safetensors"},
        {"rfilename": "a/../../b.lotta.safetensors"},
        {"rfilename": "/tmp/b.lotta.safetensors"},
        {"rfilename": "C:\\b.lotta.safetensors"},
        {"rfilename": "NUL.lotta.safetensors"},
        {"rfilename": "aux .lotta.safetensors"},
        {"rfilename": "a\u202eb.lotta.safetensors"},
        {"rfilename": "x" * 300 + ".lotta.safetensors"},
        {"rfilename": "a/" * 600 + "x.lotta.safetensors"},
    ],
)
def test_no_description_names_another_file(files: dict[str, Any], hostile: Hostile, tmp_path: Path) -> None:
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    hostile.info = lambda handler: hostile.json(handler, hostile.repository(**files))
    with pytest.raises(RegistryError, match=r"cannot be the name of a file|invalid hash or size"):
        lottapack.pull(REPO)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def test_what_names_are_refused() -> None:
    good = [
        "a.lotta.safetensors",
        "README.md",
        "größe 1.bin",
        "con-1.bin",
        "console.bin",
        "con a.txt",
        "-a",
        ".gitattributes",
        "😀",
    ]
    bad = [
        "",
        ".",
        "..",
        "a/b",
        "a\\b",
        "a:b",
        "a*",
        "CON",
        "con.txt",
        "Aux .a",
        "com1",
        "LPT¹.x",
        "a.",
        "a ",
        " a",
        "a\x00",
    ]
    assert [name for name in good if name_fault(name)] == []
    assert [name for name in bad if not name_fault(name)] == []


@pytest.mark.parametrize("to", [REPO, "oci://127.0.0.1:9/o/m"])
@pytest.mark.parametrize("name", ["CON", "a\u202eb", "a:b", " a"])
def test_no_pack_is_pushed_under_a_name_that_some_system_cannot_hold(name: str, to: str, tmp_path: Path) -> None:
    pack = make_pack(tmp_path / f"{name}.lotta.safetensors")
    with pytest.raises(lottapack.errors.InvalidReferenceError, match="not every system"):
        lottapack.push(pack, to)


@pytest.mark.parametrize("folder", ["models--o--m", "blobs", "snapshots", "refs"])
def test_a_link_out_of_the_cache_is_not_followed(folder: str, hostile: Hostile, tmp_path: Path) -> None:
    """A whole cache, or a repository in it, may be a link to another disk."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = cache() / "models--o--m" / (folder if folder != "models--o--m" else "")
    path.parent.mkdir(parents=True)
    path.symlink_to(elsewhere)
    if folder in ("models--o--m", "refs"):
        assert lottapack.pull(REPO).path.read_bytes() == hostile.content
    else:
        with pytest.raises(OutputError, match="link out of the cache"):
            lottapack.pull(REPO)
    assert bool(list(elsewhere.iterdir())) == (folder == "models--o--m")


def test_a_partial_file_that_is_a_link_is_not_written_through(hostile: Hostile, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    blob = hub_cache.blob(REPO, hostile.sha256)
    blob.with_name(f"{blob.name}.incomplete").symlink_to(victim)
    with pytest.raises(OutputError):
        lottapack.pull(REPO)
    assert victim.read_text() == "mine"


def test_a_lock_that_is_a_link_is_not_emptied(hostile: Hostile, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    lock = cache() / ".locks" / "models--o--m" / f"{hostile.sha256}.lock"
    lock.parent.mkdir(parents=True)
    lock.symlink_to(victim)
    with pytest.raises(OutputError, match="out of the cache"):
        lottapack.pull(REPO)
    assert victim.read_text() == "mine"


def test_repairing_the_cache_removes_nothing_of_others(hostile: Hostile, tmp_path: Path) -> None:
    first = lottapack.pull(f"{REPO}@{COMMIT}").path
    victim = tmp_path / "victim"
    victim.write_text("mine")
    first.unlink()
    first.symlink_to(victim)
    assert lottapack.pull(f"{REPO}@{COMMIT}").path.read_bytes() == hostile.content
    assert victim.read_text() == "mine"
    blob = hub_cache.blob(REPO, hostile.sha256)
    blob.unlink()
    blob.symlink_to(victim)
    assert lottapack.pull(f"{REPO}@{COMMIT}").path.read_bytes() == hostile.content
    assert victim.read_text() == "mine"


def test_a_pruned_cache_is_filled_again(hostile: Hostile) -> None:
    for reference in (REPO, f"{REPO}@{COMMIT}"):
        lottapack.pull(reference)
        for blob in (cache() / "models--o--m" / "blobs").iterdir():
            blob.unlink()
        assert lottapack.pull(reference).path.read_bytes() == hostile.content


def endless(hostile: Hostile, handler: Any, count: int = 200, **headers: str) -> None:
    hostile.send(handler, 200, b"", length=False, Connection="close", **headers)
    handler.close_connection = True
    for _ in range(count):
        handler.wfile.write(b" " * (1 << 20))


def test_answers_without_end(hostile: Hostile) -> None:
    hostile.info = lambda handler: endless(hostile, handler)
    with pytest.raises(RegistryError, match="more than 33,554,432 bytes"):
        lottapack.pull(REPO)
    bomb = gzip.compress(b" " * (100 << 20))
    hostile.info = lambda handler: hostile.send(handler, 200, bomb, Content_Encoding="gzip")
    for call in (lambda: lottapack.pull(REPO), lambda: lottapack.list_packs("o"), lambda: lottapack.history(REPO)):
        with pytest.raises(RegistryError, match="compressed"):
            call()


def test_a_file_without_end_stops_at_its_size(hostile: Hostile) -> None:
    hostile.file = lambda handler: endless(hostile, handler)
    with pytest.raises(IntegrityError, match=f"more than the {len(hostile.content):,} bytes"):
        lottapack.pull(REPO)
    assert sum(path.stat().st_size for path in cache().rglob("*") if path.is_file()) <= len(hostile.content)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_token_stays_at_home(status: int, hostile: Hostile) -> None:
    with another() as other:
        other.info = lambda handler: other.json(handler, hostile.repository())
        other.file = lambda handler: other.send(handler, 200, hostile.content)
        for place in ("info", "file"):
            setattr(
                hostile, place, lambda handler: hostile.send(handler, status, b"", Location=other.url + handler.path)
            )
        assert lottapack.pull(REPO).path.read_bytes() == hostile.content
        assert len(other.seen) == 2
        assert {token for _, _, token, _ in other.seen} == {None}
        assert {token for _, _, token, _ in hostile.seen} == {"Bearer hf_secret"}
        hostile.info = lambda handler: hostile.json(handler, [], Link=f'<{other.url}/x>; rel="next"')
        with pytest.raises(RegistryError, match="another server"):
            lottapack.list_packs("o")
        assert len(other.seen) == 2


def test_the_token_stays_at_home_in_a_push(hostile: Hostile, tmp_path: Path) -> None:
    """Redirects of requests that huggingface_hub makes itself."""
    from huggingface_hub.utils import get_session

    from lottapack.registry.hub_guard import guarded

    with another() as other, guarded():
        headers = {"User-Agent": "lottapack/1; hf_hub", "Authorization": "Bearer hf_secret"}
        get_session().post(f"{other.url}/verify", headers=headers)
        assert [token for _, _, token, _ in other.seen] == [None]
        get_session().get(f"{other.url}/theirs", headers={"Authorization": "Bearer theirs"})
        assert [token for _, _, token, _ in other.seen] == [None, "Bearer theirs"]


class Cut:
    """Sends a file up to a byte and closes the connection; honours, ignores or falsifies ranges."""

    def __init__(self, hostile: Hostile, ends: list[int], lie: int = 0, ranges: bool = True) -> None:
        self.hostile, self.ends, self.lie, self.ranges = hostile, ends, lie, ranges

    def __call__(self, handler: Any) -> None:
        content, asked = self.hostile.content, handler.headers["Range"]
        start = int(asked[6:-1]) if asked and self.ranges else 0
        end = self.ends.pop(0) if self.ends else len(content)
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start + self.lie}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        handler.wfile.write(content[start:end])
        handler.close_connection = end < len(content)


def test_a_cut_download_goes_on_where_it_ended(hostile: Hostile) -> None:
    hostile.file = Cut(hostile, [1000, 1000, 2000, 3000])
    result = lottapack.pull(REPO)
    assert [asked for _, _, _, asked in hostile.seen[1:]] == [None, *(f"bytes={n}-" for n in (1000, 1000, 2000, 3000))]
    assert (result.path.read_bytes(), result.received) == (hostile.content, len(hostile.content))


def test_the_next_run_goes_on_where_the_last_ended(hostile: Hostile) -> None:
    hostile.file = Cut(hostile, [1000] * 5)
    with pytest.raises(NetworkError, match="run the same command again"):
        lottapack.pull(REPO)
    hostile.seen.clear()
    hostile.file = Cut(hostile, [])
    result = lottapack.pull(REPO)
    assert hostile.seen[-1][3] == "bytes=1000-"
    assert (result.path.read_bytes(), result.received) == (hostile.content, len(hostile.content) - 1000)


def test_what_was_kept_is_hashed_again(hostile: Hostile) -> None:
    blob = hub_cache.blob(REPO, hostile.sha256)
    partial = blob.with_name(f"{blob.name}.incomplete")
    for kept in (b"x" * 1000, b"x" * (len(hostile.content) + 5), b"x" * len(hostile.content)):
        partial.write_bytes(kept)
        hostile.file = Cut(hostile, [])
        assert lottapack.pull(REPO).path.read_bytes() == hostile.content
        blob.unlink()


def test_ranges_that_are_ignored_or_lie(hostile: Hostile) -> None:
    hostile.file = Cut(hostile, [1000], ranges=False)
    assert lottapack.pull(REPO).path.read_bytes() == hostile.content
    hub_cache.blob(REPO, hostile.sha256).unlink()
    hostile.file = Cut(hostile, [1000, 2000, 1000], lie=7)
    with pytest.raises(IntegrityError, match="starts at another byte"):
        lottapack.pull(REPO)
    hostile.file = Cut(hostile, [])
    assert lottapack.pull(REPO).path.read_bytes() == hostile.content
    hub_cache.blob(REPO, hostile.sha256).rename(partial := hub_cache.blob(REPO, f"{hostile.sha256}.incomplete"))
    partial.write_bytes(partial.read_bytes()[:1000])
    hostile.file = lambda handler: hostile.send(handler, 416 if handler.headers["Range"] else 200, hostile.content)
    assert lottapack.pull(REPO).path.read_bytes() == hostile.content


def test_a_drip_is_too_slow(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "_WINDOW", 0.2)
    monkeypatch.setattr(downloading, "_SLOWEST", 10**9)
    stop = threading.Event()

    def drip(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        for byte in hostile.content[:200]:
            handler.wfile.write(bytes([byte]))
            stop.wait(0.05)

    hostile.file = drip
    with pytest.raises(NetworkError, match="bytes a second"):
        lottapack.pull(REPO)
    stop.set()


def test_many_packs_are_not_all_named(hostile: Hostile) -> None:
    files = [{"rfilename": f"{number}.lotta.safetensors", "size": 1, "blobId": "b" * 40} for number in range(20_000)]
    hostile.info = lambda handler: hostile.json(handler, {"id": REPO, "sha": COMMIT, "siblings": files})
    with pytest.raises(RegistryError, match="19,990 more") as caught:
        lottapack.pull(REPO)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_pull_goes_on_in_another_process(number: signal.Signals, hostile: Hostile, tmp_path: Path) -> None:
    """Two concurrent resumptions fetch the rest once."""
    hostile.content = make_pack(tmp_path / "pack" / NAME, width=12_000).read_bytes()
    hostile.sha256 = hashlib.sha256(hostile.content).hexdigest()
    half, holding = len(hostile.content) // 2, threading.Event()
    waiting = threading.Event()

    def hold(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(hostile.content)))
        handler.end_headers()
        handler.wfile.write(hostile.content[:half])
        handler.wfile.flush()
        waiting.set()
        holding.wait(60)

    hostile.file = hold
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment = {**plain, "HF_ENDPOINT": hostile.url, "HF_HOME": str(tmp_path / "other")}
    line = [sys.executable, "-m", "lottapack_cli", "pull", REPO, "--json"]
    first = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert waiting.wait(60)
    partial = tmp_path / "other" / "hub" / "models--o--m" / "blobs" / f"{hostile.sha256}.incomplete"
    for _ in range(600):
        if partial.exists() and partial.stat().st_size > half // 2:
            break
        time.sleep(0.05)
    first.send_signal(number)
    first.communicate(timeout=300)
    holding.set()
    kept = partial.stat().st_size
    assert half // 2 < kept <= half
    hostile.seen.clear()
    hostile.file = Cut(hostile, [])
    both = [subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    results = [json.loads(process.communicate(timeout=300)[0]) for process in both]
    assert sorted(result["received"] for result in results) == [0, len(hostile.content) - kept]
    assert Path(results[0]["path"]).read_bytes() == hostile.content
    assert len([path for _, path, _, _ in hostile.seen if "/resolve/" in path]) == 1
    assert not partial.exists()


def test_a_commit_is_that_commit_or_an_error(hostile: Hostile) -> None:
    with pytest.raises(RegistryError, match=f"answers with commit {COMMIT} instead of {'b' * 40}"):
        lottapack.pull(f"{REPO}@{'b' * 40}")
    assert not list(cache().rglob("*.lotta.safetensors"))
    assert lottapack.pull(f"{REPO}@{COMMIT}").revision == COMMIT


def test_only_what_can_be_pulled_is_listed(hostile: Hostile) -> None:
    names = [
        "o/m",
        "../../etc/passwd",
        "oci://127.0.0.1/x",
        "/etc/x.lotta.safetensors",
        "o/m\x1b[31m",
        "m",
        "o/m/x",
        "",
    ]
    models = [{"id": name, "siblings": [{"rfilename": NAME}]} for name in names]
    hostile.info = lambda handler: hostile.json(handler, models)
    assert [listed.reference for listed in lottapack.list_packs("o")] == ["o/m"]


def test_one_time_that_is_not_valid_does_not_hide_the_rest(hostile: Hostile) -> None:
    times = {"o/m": "yesterday", "o/n": "2026-01-01T00:00:00.000Z", "o/o": ""}
    models = [{"id": name, "siblings": [{"rfilename": NAME}], "lastModified": time} for name, time in times.items()]
    hostile.info = lambda handler: hostile.json(handler, models)
    assert [listed.modified for listed in lottapack.list_packs("o")] == [None, "2026-01-01T00:00:00+00:00", None]


@pytest.mark.parametrize("odd", ["../x", "a" * 39, "A" * 40, "a" * 40 + "\n", ""])
def test_what_a_log_calls_a_commit_is_one(odd: str, hostile: Hostile) -> None:
    commit = {"id": odd, "title": "t", "date": "2026-01-01T00:00:00Z"}
    for refs, commits in (({"tags": [{"name": "v1", "targetCommit": odd}]}, []), ({}, [commit])):
        hostile.info = lambda handler, refs=refs, commits=commits: hostile.json(
            handler, refs if handler.path.endswith("/refs") else commits
        )
        with pytest.raises(RegistryError, match="does not answer like a Hub"):
            lottapack.history(REPO)


def test_what_is_in_the_cache_needs_no_lock(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    first = lottapack.pull(REPO)

    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(hub_cache, "acquired", refused)
    assert lottapack.pull(REPO) == dataclasses.replace(first, received=0)
    first.path.resolve().write_bytes(b"damaged")
    with pytest.raises(OutputError, match="Permission denied"):
        lottapack.pull(REPO)
