"""Pulls from a real server: downloads are checked, cached files are not fetched again."""

import hashlib
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_runs import Hub, make_pack
from huggingface_hub import CommitOperationAdd, constants, hf_hub_download

import lottapack
from lottapack import registry
from lottapack.errors import IntegrityError, NotFoundError, RegistryError
from lottapack_serve import views
from lottapack_serve.server import _listening

REPO = "my-org/digits"


@pytest.fixture
def pushed(hub: Hub, pack: Path) -> registry.PushResult:
    result = lottapack.push(pack, REPO, tag="v1")
    shutil.rmtree(hub.cache, ignore_errors=True)
    hub.served.clear()
    return result


def requests(hub: Hub) -> list[str]:
    """Return the requests since the last call, without the client's daily request for new versions."""
    found = [f"{served.method} {served.path}" for served in hub.served if "agent" not in served.path]
    hub.served.clear()
    return found


def test_the_pack_is_in_the_cache_as_it_was_pushed(hub: Hub, pack: Path, pushed: registry.PushResult) -> None:
    result = lottapack.pull(f"{REPO}@v1")
    assert result.path.read_bytes() == pack.read_bytes()
    assert result.path.name == pack.name
    assert result.path.is_relative_to(hub.cache)
    assert (result.revision, result.sha256, result.size) == (pushed.revision, pushed.sha256, pushed.size)
    assert result.received == pack.stat().st_size
    assert result.reference == f"{REPO}@v1"
    # It lies where other clients expect it.
    assert hf_hub_download(REPO, pack.name, revision=pushed.revision, endpoint=hub.url) == str(result.path)


def test_a_second_pull_asks_once_and_a_commit_not_at_all(hub: Hub, pushed: registry.PushResult) -> None:
    first = lottapack.pull(f"{REPO}@v1")
    assert len(requests(hub)) == 2
    again = lottapack.pull(f"{REPO}@v1")
    assert len(requests(hub)) == 1
    assert (again.path, again.received) == (first.path, 0)
    by_commit = lottapack.pull(f"{REPO}@{pushed.revision}")
    assert requests(hub) == []
    assert (by_commit.path, by_commit.sha256) == (first.path, first.sha256)


def test_another_commit_with_the_same_pack_is_not_fetched(hub: Hub, pack: Path, pushed: registry.PushResult) -> None:
    lottapack.pull(REPO)
    newer = lottapack.push(pack, REPO, license="mit").revision
    requests(hub)
    result = lottapack.pull(REPO)
    assert (result.revision, result.received) == (newer, 0)
    assert [request for request in requests(hub) if request.startswith("GET /my-org")] == []


def test_a_branch_is_followed(hub: Hub, pack: Path, pushed: registry.PushResult) -> None:
    assert lottapack.pull(REPO).sha256 == pushed.sha256
    make_pack(pack, seed=43)
    newer = lottapack.push(pack, REPO)
    assert lottapack.pull(REPO).sha256 == newer.sha256 != pushed.sha256
    assert lottapack.pull(f"{REPO}@v1").sha256 == pushed.sha256


def test_offline_from_the_cache(hub: Hub, pushed: registry.PushResult, monkeypatch: pytest.MonkeyPatch) -> None:
    online = [lottapack.pull(reference) for reference in (REPO, f"{REPO}@v1")]
    requests(hub)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for before, reference in zip(online, (REPO, f"{REPO}@v1"), strict=True):
        found = lottapack.pull(reference)
        assert (found.path, found.revision, found.sha256) == (before.path, before.revision, before.sha256)
    assert lottapack.pull(f"{REPO}@{pushed.revision}").path == online[0].path
    for reference in (f"{REPO}@v2", "my-org/other", f"{REPO}@{'0' * 40}"):
        with pytest.raises(NotFoundError, match="not in the cache") as caught:
            lottapack.pull(reference)
        assert "Unset HF_HUB_OFFLINE" in caught.value.hint
    with pytest.raises(lottapack.errors.NetworkError, match="HF_HUB_OFFLINE"):
        lottapack.history(REPO)
    assert requests(hub) == []


@pytest.mark.parametrize("offline", [True, False])
def test_a_cached_file_that_changed_is_found(
    offline: bool, hub: Hub, pack: Path, pushed: registry.PushResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = f"{REPO}@{pushed.revision}"
    cached = lottapack.pull(reference).path.resolve()
    content = bytearray(cached.read_bytes())
    content[len(content) // 2] ^= 1
    cached.write_bytes(content)
    if offline:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(IntegrityError, match=hashlib.sha256(content).hexdigest()) as caught:
            lottapack.pull(reference)
        assert pushed.sha256 in str(caught.value)
        assert not cached.exists()
    else:
        assert lottapack.pull(reference).path.read_bytes() == pack.read_bytes()


@pytest.mark.parametrize("reference", [REPO, f"{REPO}@v1"])
def test_a_cached_file_that_is_cut_is_fetched_anew(
    reference: str, hub: Hub, pack: Path, pushed: registry.PushResult
) -> None:
    cached = lottapack.pull(reference).path.resolve()
    cached.write_bytes(cached.read_bytes()[:-1])
    again = lottapack.pull(reference)
    assert again.path.read_bytes() == pack.read_bytes()
    assert again.received == again.size


def test_the_bytes_are_counted(hub: Hub, pushed: registry.PushResult) -> None:
    calls: list[tuple[int, int]] = []
    result = lottapack.pull(REPO, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (result.size, result.size)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_a_repository_without_a_pack_and_one_with_two(hub: Hub, pack: Path) -> None:
    hub.api.create_repo("my-org/empty")
    with pytest.raises(NotFoundError, match="no pack") as caught:
        lottapack.pull("my-org/empty")
    assert "lottapack log my-org/empty" in caught.value.hint
    operations = [CommitOperationAdd(f"{name}.lotta.safetensors", pack) for name in "ab"]
    hub.api.create_commit("my-org/empty", operations, commit_message="Two")
    with pytest.raises(RegistryError, match=r"a\.lotta\.safetensors, b\.lotta\.safetensors"):
        lottapack.pull("my-org/empty")


def test_what_is_no_pack_is_refused_though_its_bytes_are_right(hub: Hub, pack: Path) -> None:
    hub.api.create_repo("my-org/fake")
    broken = bytearray(pack.read_bytes())
    broken[-1] ^= 1
    for content, kind in ((b"no pack at all", lottapack.errors.FormatError), (bytes(broken), IntegrityError)):
        add = CommitOperationAdd("fake.lotta.safetensors", content)
        hub.api.create_commit("my-org/fake", [add], commit_message="x")
        with pytest.raises(kind):
            lottapack.pull("my-org/fake")


def test_load_pulls_and_rebuilds(hub: Hub, pack: Path, pushed: registry.PushResult) -> None:
    here, there = lottapack.load(pack), lottapack.load(f"{REPO}@v1")
    assert all(torch.equal(here.state_dict()[name], tensor) for name, tensor in there.state_dict().items())
    assert torch.equal(here[0].weight, there[0].weight)
    requests(hub)
    lottapack.load(f"hf://{REPO}@{pushed.revision}", merge=True)
    assert requests(hub) == []
    with pytest.raises(lottapack.errors.InvalidReferenceError, match="owner/name"):
        lottapack.load("digits")


def test_the_hubs_git_ids_are_checked_where_it_says_no_sha256(
    hub: Hub, pushed: registry.PushResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hub keeps small files in git and gives their git id only."""
    monkeypatch.setattr(views, "lfs", lambda *_: None)
    path = lottapack.pull(REPO).path
    content = path.read_bytes()
    stored = hub.store_file(content)
    stored.chmod(0o600)
    stored.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    path.resolve().write_bytes(content[:-1] + b"?")
    with pytest.raises(IntegrityError, match="git id"):
        lottapack.pull(REPO)


def test_answers_do_not_wait_for_the_client(tmp_path: Path) -> None:
    """Without TCP_NODELAY the second half of an answer comes 40 ms after the first."""
    with _listening("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted = listening.accept()[0]
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_what_the_client_asks_once_a_day_is_asked_once(hub: Hub, pushed: registry.PushResult) -> None:
    hub.served.clear()
    for _ in range(2):
        line = [sys.executable, "-m", "lottapack_cli", "pull", f"{REPO}@v1", "--quiet"]
        subprocess.run(line, env=hub.environment(), check=True, timeout=300)
    asked = [served.path for served in hub.served]
    assert asked.count("/api/agent-harnesses") <= 1
    assert len(asked) <= 1 + 3 + 1


def test_a_ref_of_other_bytes_is_written_again(hub: Hub, pack: Path) -> None:
    lottapack.push(pack, REPO)
    first = lottapack.pull(REPO)
    [ref] = [path for path in (hub.cache / "models--my-org--digits" / "refs").rglob("*") if path.is_file()]
    ref.write_bytes(b"\xff\xfe")
    assert lottapack.pull(REPO).revision == first.revision
    assert ref.read_bytes() == first.revision.encode()
