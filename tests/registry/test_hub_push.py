"""Pushes to a real server, checked with a stock client."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hub_runs import Hub, make_pack
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, constants, hf_hub_download
from huggingface_hub.utils.tqdm import are_progress_bars_disabled

import lottapack
from lottapack.errors import ConflictError, IntegrityError, InvalidReferenceError, RegistryError
from lottapack.registry import hub_files
from lottapack_serve.routes import commit as commit_routes

REPO = "my-org/digits"


def content(hub: Hub, name: str, revision: str = "main") -> bytes:
    """Fetch a file with another client."""
    return Path(
        hf_hub_download(REPO, name, revision=revision, endpoint=hub.url, cache_dir=hub.home / "other")
    ).read_bytes()


def test_one_commit_holds_the_pack_its_card_and_its_signature(hub: Hub, pack: Path) -> None:
    signature = pack.with_name(f"{pack.name}.sig")
    signature.write_bytes(b"signed")
    result = lottapack.push(pack, REPO, tag="v1", license="mit", datasets=["mnist"], message="First")
    assert (result.created, result.dry_run, result.already) == (True, False, ())
    assert [(file.name, file.size) for file in result.sent][:2] == [
        (pack.name, pack.stat().st_size),
        (signature.name, 6),
    ]
    assert result.sha256 == hashlib.sha256(pack.read_bytes()).hexdigest()
    assert content(hub, pack.name, "v1") == pack.read_bytes()
    assert content(hub, signature.name, "v1") == b"signed"
    card = ModelCard(content(hub, "README.md", "v1").decode())
    assert (card.data.library_name, card.data.license, card.data.datasets) == ("lottapack", "mit", ["mnist"])
    assert result.sha256 in card.text
    [mine, initial] = hub.api.list_repo_commits(REPO)
    assert (mine.commit_id, mine.title, initial.title) == (result.revision, "First", "initial commit")
    [tag] = hub.api.list_repo_refs(REPO).tags
    assert (tag.name, tag.target_commit) == ("v1", result.revision)
    assert result.reference == f"{REPO}@v1"


def test_what_is_there_is_not_sent_again(hub: Hub, pack: Path) -> None:
    first = lottapack.push(pack, REPO)
    hub.served.clear()
    again = lottapack.push(pack, REPO, tag="v1")
    assert (again.revision, again.sent, again.created) == (first.revision, (), False)
    assert {file.name for file in again.already} == {pack.name, "README.md"}
    assert [served.path.rpartition("/")[2] for served in hub.served if served.method == "POST"] == [first.revision]
    assert sum(served.received for served in hub.served) < 100
    assert [tag.target_commit for tag in hub.api.list_repo_refs(REPO).tags] == [first.revision]
    hub.served.clear()
    lottapack.push(pack, REPO, tag="v1")
    assert {served.method for served in hub.served} <= {"GET", "HEAD"}
    assert len(hub.api.list_repo_commits(REPO)) == 2


def test_only_what_changed_is_sent(hub: Hub, pack: Path) -> None:
    lottapack.push(pack, REPO)
    result = lottapack.push(pack, REPO, license="mit")
    assert [file.name for file in result.sent] == ["README.md"]
    assert [file.name for file in result.already] == [pack.name]


def test_a_persons_card_is_updated_between_the_markers_only(hub: Hub, pack: Path) -> None:
    lottapack.push(pack, REPO)
    mine = (
        content(hub, "README.md")
        .decode()
        .replace("# digits\n", "# Ours\n\nBy hand.\n")
        .replace("---\n#", "# c\n---\n#")
    )
    edit = CommitOperationAdd("README.md", mine.encode())
    edited = hub.api.create_commit(REPO, [edit], commit_message="Edit").oid
    before = lottapack.inspect(pack).seed
    make_pack(pack, seed=43)
    result = lottapack.push(pack, REPO)
    card = content(hub, "README.md", str(result.revision)).decode()
    old, new = mine.splitlines(), card.splitlines()
    changed = [number for number, (one, other) in enumerate(zip(old, new, strict=True)) if one != other]
    assert [old[number].split("|")[1].strip() for number in changed] == ["backbone", "SHA-256"]
    assert f"seed {int(before, 16)}" not in card
    assert [commit.commit_id for commit in hub.api.list_repo_commits(REPO)][:2] == [result.revision, edited]


@pytest.mark.parametrize("mine", [b"\xff\xfe no text", b"# All mine\n"])
def test_a_card_without_markers_is_left_alone(mine: bytes, hub: Hub, pack: Path) -> None:
    hub.api.create_repo(REPO)
    hub.commit(REPO, "README.md", mine)
    result = lottapack.push(pack, REPO, license="mit")
    assert [file.name for file in result.sent] == [pack.name]
    assert content(hub, "README.md") == mine


def test_broken_front_matter_is_named(hub: Hub, pack: Path) -> None:
    lottapack.push(pack, REPO)
    hub.commit(REPO, "README.md", content(hub, "README.md").replace(b"tags:", b"tags: ["))
    make_pack(pack, seed=43)
    with pytest.raises(RegistryError, match=r"README\.md") as caught:
        lottapack.push(pack, REPO)
    assert "front matter" in caught.value.hint
    assert len(hub.api.list_repo_commits(REPO)) == 3


def test_a_stale_signature_goes_with_its_pack(hub: Hub, pack: Path) -> None:
    signature = pack.with_name(f"{pack.name}.sig")
    signature.write_bytes(b"signed")
    lottapack.push(pack, REPO)
    signature.unlink()
    assert lottapack.push(pack, REPO).removed == ()  # the pack is the same, and so is its signature
    make_pack(pack, seed=43)
    assert lottapack.push(pack, REPO, dry_run=True).removed == (signature.name,)
    assert lottapack.push(pack, REPO).removed == (signature.name,)
    assert signature.name not in hub.api.list_repo_files(REPO)


def test_a_dry_run_changes_nothing(hub: Hub, pack: Path) -> None:
    said = lottapack.push(pack, REPO, tag="v1", dry_run=True)
    assert {file.name for file in said.sent} == {pack.name, "README.md"}
    assert (said.created, said.dry_run, said.revision) == (True, True, None)
    assert not hub.api.repo_exists(REPO)
    done = lottapack.push(pack, REPO, tag="v1")
    assert (done.sent, done.reference, done.sha256) == (said.sent, said.reference, said.sha256)
    assert lottapack.push(pack, REPO, dry_run=True).revision == done.revision


def test_a_broken_pack_is_refused_and_nothing_is_sent(hub: Hub, pack: Path) -> None:
    broken = bytearray(pack.read_bytes())
    broken[-1] ^= 1
    pack.write_bytes(broken)
    with pytest.raises(IntegrityError, match="Nothing was sent"):
        lottapack.push(pack, REPO)
    pack.write_bytes(broken[:-1])
    with pytest.raises(lottapack.errors.FormatError):
        lottapack.push(pack, REPO)
    assert hub.served == []


def test_a_name_that_nobody_would_find_is_refused(hub: Hub, pack: Path) -> None:
    other = pack.rename(pack.with_name("digits.safetensors"))
    with pytest.raises(InvalidReferenceError, match=r"digits\.lotta\.safetensors"):
        lottapack.push(other, REPO)
    assert hub.served == []


@pytest.mark.parametrize("reference", ["my-org/digits@v1", "./digits.lotta.safetensors"])
def test_where_nothing_can_be_pushed(hub: Hub, pack: Path, reference: str) -> None:
    with pytest.raises(InvalidReferenceError):
        lottapack.push(pack, reference)
    assert hub.served == []


def test_private_is_kept(hub: Hub, pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.server.token("writer", "write"))
    lottapack.push(pack, REPO, private=True)
    assert hub.api.model_info(REPO).private is True
    lottapack.push(pack, "my-org/open")
    with pytest.raises(RegistryError, match="public") as caught:
        lottapack.push(pack, "my-org/open", private=True)
    assert "make the repository private" in caught.value.hint


def test_a_branch_is_made_and_main_stays(hub: Hub, pack: Path) -> None:
    first = lottapack.push(pack, REPO)
    make_pack(pack, seed=43)
    second = lottapack.push(pack, REPO, branch="wide")
    assert second.reference == f"{REPO}@wide"
    branches = {branch.name: branch.target_commit for branch in hub.api.list_repo_refs(REPO).branches}
    assert branches == {"main": first.revision, "wide": second.revision}
    assert lottapack.pull(REPO).sha256 == first.sha256
    assert lottapack.pull(f"{REPO}@wide").sha256 == second.sha256
    lottapack.push(pack, "my-org/new", branch="wide")
    assert {branch.name for branch in hub.api.list_repo_refs("my-org/new").branches} == {"main", "wide"}


def test_a_tag_that_is_taken_is_refused_before_anything_is_sent(hub: Hub, pack: Path) -> None:
    first = lottapack.push(pack, REPO, tag="v1")
    make_pack(pack, seed=43)
    with pytest.raises(ConflictError, match=f"v1 already names commit {first.revision}"):
        lottapack.push(pack, REPO, tag="v1")
    assert len(hub.api.list_repo_commits(REPO)) == 2
    assert lottapack.push(pack, REPO, tag="v2").revision != first.revision


def test_two_packs_in_one_revision_are_refused(hub: Hub, pack: Path) -> None:
    lottapack.push(pack, REPO)
    other = make_pack(pack.with_name("other.lotta.safetensors"), seed=43)
    with pytest.raises(RegistryError, match=pack.name):
        lottapack.push(other, REPO)
    assert len(hub.api.list_repo_commits(REPO)) == 2


def test_a_commit_in_between_is_a_conflict(hub: Hub, pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lottapack.push(pack, REPO)
    make_pack(pack, seed=43)
    ask = hub_files.contents

    def overtaken(*arguments: object) -> hub_files.Contents:
        found = ask(*arguments)  # type: ignore[arg-type]
        hub.api.create_commit(REPO, [CommitOperationAdd("notes.md", b"mine")], commit_message="In between")
        return found

    monkeypatch.setattr(hub_files, "contents", overtaken)
    with pytest.raises(ConflictError, match="push again"):
        lottapack.push(pack, REPO)
    monkeypatch.setattr(hub_files, "contents", ask)
    assert next(commit.title for commit in hub.api.list_repo_commits(REPO)) == "In between"
    result = lottapack.push(pack, REPO)
    assert set(hub.api.list_repo_files(REPO, revision=result.revision)) >= {"notes.md", pack.name, "README.md"}


@pytest.mark.parametrize("when", ["before", "after"])
def test_of_first_pushes_at_once_one_wins_and_the_others_learn_it(
    when: str, hub: Hub, pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another first push happens between creating the repository and the commit."""
    make, ask = HfApi.create_repo, hub_files.contents

    def overtaken() -> None:
        hub.api.create_commit(REPO, [CommitOperationAdd(pack.name, b"theirs")], commit_message="Theirs")

    def made(*arguments: object, **options: object) -> object:
        result = make(*arguments, **options)  # type: ignore[arg-type]
        if when == "before":
            overtaken()
        return result

    def asked(*arguments: object) -> hub_files.Contents:
        result = ask(*arguments)  # type: ignore[arg-type]
        if when == "after":
            overtaken()
        return result

    with monkeypatch.context() as patched, pytest.raises(ConflictError, match="push again"):
        patched.setattr(HfApi, "create_repo", made)
        patched.setattr(hub_files, "contents", asked)
        lottapack.push(pack, REPO)
    assert content(hub, pack.name) == b"theirs"


def test_progress_is_in_bytes_and_the_clients_bars_stay_as_they_were(hub: Hub, pack: Path) -> None:
    calls: list[tuple[int, int]] = []
    disabled = are_progress_bars_disabled()
    result = lottapack.push(pack, REPO, progress=lambda done, total: calls.append((done, total)))
    size = sum(file.size for file in result.sent)
    assert (calls[0], calls[-1]) == ((0, size), (size, size))
    assert are_progress_bars_disabled() == disabled


def test_the_log_and_the_list(hub: Hub, pack: Path) -> None:
    first = lottapack.push(pack, REPO, tag="v1", message="One")
    make_pack(pack, seed=43)
    second = lottapack.push(pack, REPO, branch="wide", message="Two")
    hub.api.create_repo("my-org/empty")
    entries = lottapack.history(f"{REPO}@wide")
    assert [(entry.revision, set(entry.names), entry.title) for entry in entries][:2] == [
        (second.revision, {"wide"}, "Two"),
        (first.revision, {"v1", "main"}, "One"),
    ]
    assert all(entry.when for entry in entries)
    [listed] = lottapack.list_packs("my-org")
    assert (listed.reference, listed.private) == (REPO, False)
    assert lottapack.list_packs("nobody") == []
    assert constants.HF_HUB_CACHE.startswith(str(hub.home))


def test_a_commit_that_a_killed_run_had_asked_for_is_no_conflict(
    hub: Hub, pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry finishes it while the next run looks: then everything exists."""
    commit = HfApi.create_commit

    def overtaken(*arguments: object, **options: object) -> object:
        commit(*arguments, **options)  # type: ignore[arg-type]
        raise ConflictError("another commit came first")

    lottapack.push(pack, REPO)
    make_pack(pack, seed=43)
    monkeypatch.setattr(HfApi, "create_commit", overtaken)
    result = lottapack.push(pack, REPO, tag="v2")
    assert (result.sent, len(hub.api.list_repo_commits(REPO))) == ((), 3)
    assert content(hub, pack.name, "v2") == pack.read_bytes()


@pytest.mark.parametrize("what", ["the pack", "another content"])
def test_what_the_registry_leaves_out_of_a_commit_is_said(
    what: str, hub: Hub, pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the Hub does with files that a ``.gitignore`` names."""
    if what == "the pack":
        real = commit_routes.JSONResponse

        def ignoring(answer: Any, *arguments: Any, **options: Any) -> Any:
            for file in answer.get("files", ()):
                file["shouldIgnore"] = file["path"] == pack.name
            return real(answer, *arguments, **options)

        monkeypatch.setattr(commit_routes, "JSONResponse", ignoring)
    else:
        send = HfApi.create_commit

        def other(self: Any, repo: str, operations: list[Any], **options: Any) -> Any:
            names = [one.path_in_repo for one in operations]
            operations[names.index(pack.name)] = CommitOperationAdd(pack.name, b"other")
            return send(self, repo, operations, **options)

        monkeypatch.setattr(HfApi, "create_commit", other)
    with pytest.raises(RegistryError, match=f"without {pack.name}") as raised:
        lottapack.push(pack, REPO)
    assert ".gitignore" in raised.value.hint
