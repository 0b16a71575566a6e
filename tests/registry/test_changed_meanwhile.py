"""Files that others replace while they are sent, or that are damaged in the cache, and answers that do nothing."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_runs import Hub, lead_to, make_pack
from huggingface_hub import HfApi, constants

import lottapack
from lottapack.errors import IntegrityError, RegistryError
from lottapack.registry import hub_server, locking
from lottapack_serve import views

REPO = "my-org/digits"


def before(monkeypatch: pytest.MonkeyPatch, method: str, do: Callable[[], Any]) -> None:
    """Do something just before the client's next request of that kind."""
    real = getattr(HfApi, method)

    def then(*arguments: Any, **options: Any) -> Any:
        do()
        return real(*arguments, **options)

    monkeypatch.setattr(HfApi, method, then)


@pytest.mark.parametrize("git", [False, True])
@pytest.mark.parametrize(("step", "sent"), [("create_repo", False), ("create_commit", True)])
def test_only_the_pack_that_was_checked_is_sent(
    step: str, sent: bool, git: bool, hub: Hub, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a trainer that saves the next pack under the same name. ``git``: a Hub that gives git's ids only."""
    if git:
        monkeypatch.setattr(views, "lfs", lambda *_: None)
    other = make_pack(tmp_path / "other.lotta.safetensors", seed=7)
    before(monkeypatch, step, lambda: other.replace(pack))
    with pytest.raises(IntegrityError, match="was replaced while it was sent") as caught:
        lottapack.push(pack, REPO, tag="v1")
    assert ("Nothing was sent" in caught.value.hint) is not sent
    assert [ref.name for ref in hub.api.list_repo_refs(REPO).tags] == []
    monkeypatch.undo()
    lead_to(monkeypatch, hub.url, hub.home)
    pushed = lottapack.push(pack, REPO)
    assert lottapack.pull(REPO).sha256 == pushed.sha256
    card = hub.api.hf_hub_download(REPO, "README.md", cache_dir=tmp_path / "cards")
    assert pushed.sha256 in Path(card).read_text()


def test_a_pack_that_is_replaced_after_it_was_sent_is_right(
    hub: Hub, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, content = make_pack(tmp_path / "other.lotta.safetensors", seed=7), pack.read_bytes()
    before(monkeypatch, "create_tag", lambda: other.replace(pack))
    lottapack.push(pack, REPO, tag="v1")
    assert lottapack.pull(f"{REPO}@v1").path.read_bytes() == content


def test_a_tag_that_is_not_made_is_said(hub: Hub, pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client takes a redirect of its request for success."""
    monkeypatch.setattr(HfApi, "create_tag", lambda *_, **__: None)
    with pytest.raises(RegistryError, match="did not create the tag v1") as caught:
        lottapack.push(pack, REPO, tag="v1")
    assert lottapack.pull(REPO).revision in caught.value.hint


def _linked(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


def test_a_push_brings_back_what_the_registry_lost(hub: Hub, pack: Path) -> None:
    pack.with_name(f"{pack.name}.sig").write_bytes(b"signature")
    commit = lottapack.push(pack, REPO).revision
    for path in (pack, pack.with_name(f"{pack.name}.sig")):
        hub.store_file(path.read_bytes()).unlink()
        would = lottapack.push(pack, REPO, dry_run=True)
        done = lottapack.push(pack, REPO)
        assert [file.name for file in done.sent] == [file.name for file in would.sent] == [path.name]
        assert lottapack.push(pack, REPO).sent == ()
    assert lottapack.pull(f"{REPO}@{commit}").path.read_bytes() == pack.read_bytes()


DAMAGE: dict[str, Callable[[Path, Path], Any]] = {
    "changed": lambda path, _: path.resolve().write_bytes(b"signaturE"),
    "cut": lambda path, _: path.resolve().write_bytes(b""),
    "gone": lambda path, _: path.resolve().unlink(),
    "elsewhere": lambda path, victim: _linked(path.with_name("link"), victim).replace(path),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_signature_in_the_cache_is_fetched_again(
    kind: str, hub: Hub, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack.with_name(f"{pack.name}.sig").write_bytes(b"signature")
    commit = lottapack.push(pack, REPO).revision
    cached = lottapack.pull(REPO).path
    signature = cached.with_name(f"{pack.name}.sig")
    victim = tmp_path / "victim"
    victim.write_bytes(b"private")
    DAMAGE[kind](signature, victim)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(IntegrityError, match=r"\.sig"):
        lottapack.pull(f"{REPO}@{commit}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    pulled = lottapack.pull(f"{REPO}@{commit}", output=tmp_path / "out.lotta.safetensors")
    assert pulled.received == 0
    assert (tmp_path / "out.lotta.safetensors.sig").read_bytes() == signature.read_bytes() == b"signature"
    assert victim.read_bytes() == b"private"


def test_another_path_of_one_host_is_another_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its token nor its cache may be taken for those of the other."""
    lead_to(monkeypatch, "https://hub.example/api/models-1", tmp_path)
    assert hub_server.is_own()
    with hub_server.at("https://hub.example"):
        assert not hub_server.is_own()
        assert hub_server.token() is False
        assert hub_server.cache() != Path(constants.HF_HUB_CACHE)
    lead_to(monkeypatch, "https://hub.example/", tmp_path)
    with hub_server.at("https://HUB.example:443"):
        assert hub_server.is_own()


def test_users_of_one_group_share_locks(tmp_path: Path) -> None:
    umask = os.umask(0o002)
    try:
        locking.acquired(tmp_path / "lock").release()
    finally:
        os.umask(umask)
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o664
