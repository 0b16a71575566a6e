"""Real processes: the command as users run it, killed in the middle, two at once, a full disk."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from extent import extent
from hub_runs import Hub, make_pack
from huggingface_hub import constants
from proxy import Proxy

import lottapack
from lottapack.registry import downloading

REPO = "my-org/digits"
CUTS = [round(random.Random(seed).uniform(0.05, 0.95), 3) for seed in range(extent(1, 3))]
"""When a process dies: parts of the pack's bytes that have passed."""


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Write a pack of half a megabyte, more than socket buffers hold."""
    return make_pack(tmp_path / "large.lotta.safetensors", width=12_000)


def start(hub: Hub, *arguments: object, **more: str) -> "subprocess.Popen[str]":
    """Start the command as a client of the hub or of ``HF_ENDPOINT``."""
    command = [sys.executable, "-m", "lottapack_cli", *map(str, arguments)]
    pipes = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipes, stderr=pipes, text=True, env=hub.environment(**more))


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def wait_for(what: Callable[[], bool]) -> None:
    for _ in range(600):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to that")


def in_cache(hub: Hub) -> list[Path]:
    """Return the files in the cache whose names a pull would use."""
    found = (path for path in hub.cache.rglob("*") if path.parent.name == "blobs" or "snapshots" in path.parts)
    return [path for path in found if not path.is_dir() and path.suffix != ".incomplete"]


def test_the_whole_way(hub: Hub, large: Path, tmp_path: Path) -> None:
    code, out, err = finish(start(hub, "push", large, REPO, "--tag", "v1", "--json"))
    assert (code, err) == (0, "")
    pushed = json.loads(out)
    code, out, err = finish(start(hub, "pull", f"{REPO}@v1", "--export", tmp_path / "full", "--json"))
    assert (code, err) == (0, "")
    pulled = json.loads(out)
    assert (pulled["revision"], pulled["sha256"]) == (pushed["revision"], pushed["sha256"])
    plain = tmp_path / "plain.safetensors"
    lottapack.export(large, plain)
    assert Path(pulled["exported"]) == tmp_path / "full" / "model.safetensors"
    assert Path(pulled["exported"]).read_bytes() == plain.read_bytes()
    code, out, err = finish(start(hub, "pull", f"{REPO}@v1", HF_HUB_OFFLINE="1"))
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == pulled["path"]
    assert "from the cache" in out
    for line, words in ((["log", REPO], "v1"), (["list", "my-org"], REPO)):
        code, out, err = finish(start(hub, *line))
        assert (code, err) == (0, "")
        assert words in out


def test_two_processes_pull_one_pack_once(hub: Hub, large: Path) -> None:
    assert finish(start(hub, "push", large, REPO))[0] == 0
    shutil.rmtree(hub.cache, ignore_errors=True)
    hub.served.clear()

    def asked(end: str) -> int:
        return len([one for one in hub.served if one.method == "GET" and one.path.partition("?")[0].endswith(end)])

    with Proxy(hub.url) as proxy:
        proxy.after("down", large.stat().st_size // 2, hold=True)
        first = start(hub, "pull", REPO, HF_ENDPOINT=proxy.url)
        assert proxy.broken.wait(60)
        second = start(hub, "pull", REPO)
        wait_for(lambda: asked(f"/api/models/{REPO}") == 2)  # the second process waits for the first
        proxy.heal()
        assert finish(first)[0] == 0
        assert finish(second)[0] == 0
    assert asked(large.name) == 1


@pytest.mark.parametrize("part", CUTS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_pull_is_finished_by_the_next(part: float, number: signal.Signals, hub: Hub, large: Path) -> None:
    assert finish(start(hub, "push", large, REPO))[0] == 0
    shutil.rmtree(hub.cache, ignore_errors=True)
    with Proxy(hub.url) as proxy:
        proxy.after("down", int(part * large.stat().st_size), hold=True)
        process = start(hub, "pull", REPO, HF_ENDPOINT=proxy.url)
        assert proxy.broken.wait(60)
        process.send_signal(number)
        code, out, err = finish(process)
    assert (code, out) == ({signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}[number], "")
    if number == signal.SIGINT:
        assert err == "error: interrupted\n"
    assert in_cache(hub) == []
    code, out, err = finish(start(hub, "pull", REPO, "--json"))
    assert (code, err) == (0, "")
    assert Path(json.loads(out)["path"]).read_bytes() == large.read_bytes()


@pytest.mark.parametrize("part", CUTS)
def test_a_killed_push_leaves_no_trace(part: float, hub: Hub, large: Path) -> None:
    with Proxy(hub.url) as proxy:
        proxy.after("up", int(part * large.stat().st_size), hold=True)
        process = start(hub, "push", large, REPO, HF_ENDPOINT=proxy.url)
        assert proxy.broken.wait(60)
        process.kill()
        finish(process)
    assert large.name not in hub.api.list_repo_files(REPO)
    assert finish(start(hub, "push", large, REPO))[0] == 0
    assert large.name in hub.api.list_repo_files(REPO)


SERVER = """
import sys
from pathlib import Path
from lottapack_serve import run
run(Path(sys.argv[1]), port=int(sys.argv[2]), ready=lambda url: print(url, flush=True))
"""


def serve(root: Path, port: int = 0) -> "tuple[subprocess.Popen[str], str]":
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(root), str(port)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.slow
@pytest.mark.parametrize("part", CUTS)
@pytest.mark.parametrize("way", ["push", "pull"])
def test_a_server_that_dies_comes_back_whole(way: str, part: float, hub: Hub, large: Path, tmp_path: Path) -> None:
    server, url = serve(tmp_path / "mortal")
    lines = {"push": ["push", large, REPO], "pull": ["pull", REPO]}
    try:
        if way == "pull":
            assert finish(start(hub, *lines["push"], HF_ENDPOINT=url))[0] == 0
            shutil.rmtree(hub.cache, ignore_errors=True)
        with Proxy(url) as proxy:
            count = int(part * large.stat().st_size)
            proxy.after("up" if way == "push" else "down", count, then=server.kill)
            code, out, err = finish(start(hub, *lines[way], "--json", HF_ENDPOINT=proxy.url))
            error = json.loads(out)["error"]
            assert (code, error["kind"]) == (3, "NetworkError")
            assert err.splitlines() == [f"error: {error['message']}", error["hint"]]  # not a word of retries
            assert "run the same command again" in error["hint"]
        server.wait(30)
        assert in_cache(hub) == []
        server.stdout.close() if server.stdout else None
        server, url = serve(tmp_path / "mortal", int(url.rpartition(":")[2]))
        for line in (lines["push"], lines["pull"]):
            code, _, err = finish(start(hub, *line, HF_ENDPOINT=url))
            assert (code, err) == (0, "")
        assert [path.read_bytes() for path in hub.cache.rglob(large.name)] == [large.read_bytes()]
    finally:
        server.kill()
        server.wait(30)
        server.stdout.close() if server.stdout else None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(hub: Hub, large: Path, small_disk: Path) -> None:
    assert finish(start(hub, "push", large, REPO))[0] == 0
    code, out, err = finish(start(hub, "pull", REPO, HF_HOME=str(small_disk)))
    assert (code, out) == (2, "")
    assert "are free in" in err  # known before the download
    assert "Free some space" in err
    assert "Traceback" not in err
    assert [path for path in small_disk.rglob("*") if path.is_file() and path.stat().st_size > 100_000] == []
    assert finish(start(hub, "pull", REPO))[0] == 0


def test_a_disk_that_becomes_full(hub: Hub, large: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finish(start(hub, "push", large, REPO))[0] == 0
    monkeypatch.setattr(downloading, "check_disk", lambda *arguments: None)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(small_disk))
    with pytest.raises(lottapack.errors.OutputError, match="No space left") as caught:
        lottapack.pull(REPO)
    assert "Free some space" in caught.value.hint
    assert [path for path in small_disk.rglob("*") if path.is_file() and path.stat().st_size > 100_000] == []
