"""All commands and functions that read packs take references; pull copies to a path."""

import json
from pathlib import Path

import pytest
import torch
from hub_runs import Hub, Run, make_pack, serving

import lottapack
from lottapack.errors import AccessError, InvalidReferenceError, OutputError
from lottapack_serve import tokens

REPO = "my-org/digits"


@pytest.fixture
def pushed(hub: Hub, pack: Path) -> str:
    lottapack.push(pack, REPO, tag="v1")
    return f"{REPO}@v1"


def test_the_functions_read_a_reference(pushed: str, pack: Path, tmp_path: Path) -> None:
    assert lottapack.inspect(pushed).numel == lottapack.inspect(pack).numel
    assert lottapack.verify(pushed).ok
    assert lottapack.report(pushed).size == pack.stat().st_size
    lottapack.export(pack, tmp_path / "a.safetensors")
    lottapack.export(pushed, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_the_commands_read_a_reference(pushed: str, run: Run, tmp_path: Path) -> None:
    for line in (
        ["inspect", pushed],
        ["verify", pushed],
        ["report", pushed],
        ["export", pushed, "-o", tmp_path / "full.safetensors"],
    ):
        code, out, err = run(*line)
        assert (code, err) == (0, ""), line
        assert "full.safetensors" in out or "digits.lotta.safetensors" in out


def test_neither_file_nor_repository(hub: Hub, run: Run) -> None:
    result = run("inspect", "my-org/none")
    assert result.code == 3
    assert "The file my-org/none does not exist either." in result.err


def test_a_server_by_its_address(hub: Hub, pack: Path, run: Run, tmp_path: Path) -> None:
    """Two servers with a pack of the same name are kept apart."""
    lottapack.push(pack, REPO)
    (tmp_path / "other").mkdir()
    other = make_pack(tmp_path / "other" / "digits.lotta.safetensors", seed=7)
    with serving(tmp_path / "second", hub.home) as second:
        api = second.api
        api.create_repo(REPO)
        api.upload_file(path_or_fileobj=other, path_in_repo=other.name, repo_id=REPO)
        address = f"{second.url}/{REPO}"
        assert lottapack.pull(address).path.read_bytes() == other.read_bytes()
        assert lottapack.pull(REPO).path.read_bytes() == pack.read_bytes()
        assert lottapack.inspect(address).seed != lottapack.inspect(REPO).seed
        assert [entry.title for entry in lottapack.history(address)] == [c.title for c in api.list_repo_commits(REPO)]
        owner = REPO.partition("/")[0]
        assert [one.reference for one in lottapack.list_packs(f"{second.url}/{owner}")] == [address]
        with pytest.raises(InvalidReferenceError, match="HF_ENDPOINT"):
            lottapack.push(pack, address)


def test_no_token_goes_to_a_server_that_is_not_the_own(
    hub: Hub, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path / "second", hub.home) as second:
        second.api.create_repo(REPO)
        token = tokens.add(second.server.root, "alice", "write")
        second.api.update_repo_settings(REPO, private=True, token=token)
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(AccessError) as caught:
            lottapack.pull(f"{second.url}/{REPO}")
        assert f"HF_ENDPOINT={second.url}" in caught.value.hint


def test_pull_copies_to_a_file_or_a_folder(pushed: str, pack: Path, run: Run, tmp_path: Path) -> None:
    target = tmp_path / "mine.lotta.safetensors"
    target.write_text("old")
    result = run("pull", pushed, "-o", target, "--json")
    assert json.loads(result.out)["path"] == str(target)
    assert target.read_bytes() == pack.read_bytes()
    folder = tmp_path / "folder"
    folder.mkdir()
    assert lottapack.pull(pushed, output=folder).path == folder / pack.name
    assert (folder / pack.name).read_bytes() == pack.read_bytes()
    assert run("pull", pushed, "-o", tmp_path / "none" / "x.lotta.safetensors").code == 2


def test_a_signature_goes_along_and_a_strange_one_stays(hub: Hub, pack: Path, tmp_path: Path) -> None:
    beside = tmp_path / "out.lotta.safetensors.sig"
    beside.write_bytes(b"of another pack")
    lottapack.push(pack, REPO, tag="bare")
    with pytest.raises(OutputError, match="another pack"):
        lottapack.pull(f"{REPO}@bare", output=tmp_path / "out.lotta.safetensors")
    assert (beside.read_bytes(), (tmp_path / "out.lotta.safetensors").exists()) == (b"of another pack", False)
    pack.with_name(f"{pack.name}.sig").write_bytes(b"a signature")
    lottapack.push(pack, REPO, tag="signed")
    lottapack.pull(f"{REPO}@signed", output=tmp_path / "out.lotta.safetensors")
    assert beside.read_bytes() == b"a signature"


def test_several_packs_are_verified(pushed: str, pack: Path, run: Run, tmp_path: Path) -> None:
    damaged, other = tmp_path / "damaged.lotta.safetensors", tmp_path / "other.txt"
    content = bytearray(pack.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    other.write_text("no pack")
    assert run("verify", pack, pushed).code == 0
    result = run("verify", pack, damaged)
    assert result.code == 1
    assert "1 of 2 packs intact" in result.out
    result = run("verify", other, pushed, damaged)
    assert result.code == 2
    assert str(other) in result.err
    assert "1 of 3 packs intact" in result.out
    result = run("verify", other, pushed, damaged, "--json")
    record = json.loads(result.out)
    assert (result.code, record["ok"]) == (2, False)
    assert [(one["pack"], one["ok"], one["exit_code"]) for one in record["packs"]] == [
        (str(other), False, 2),
        (pushed, True, 0),
        (str(damaged), False, 1),
    ]
    assert record["packs"][0]["error"]["kind"] == "ContainerError"
    assert record["packs"][1]["sha256"] == lottapack.verify(pack).sha256
    assert run("verify", pack, damaged, "--quiet").out == ""


def test_numpy_reads_a_reference(pushed: str, pack: Path) -> None:
    model = lottapack.load(pack, merge=True)
    for name, array in lottapack.numpy.load(pushed).items():
        assert torch.equal(torch.from_numpy(array), model.state_dict()[name])
