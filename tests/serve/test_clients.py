"""Real clients, unmodified, against the real server: today's huggingface_hub, an older one, ``hf``, transformers."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from serve_runs import ROOT, Client, ask, files_in

import lottapack
from lottapack_serve import background
from lottapack_serve.server import Running
from lottapack_serve.traffic import Served

OLDER = ROOT / ".venv-hub036" / "bin" / "python"
needs_older = pytest.mark.skipif(not OLDER.exists(), reason="missing: .venv-hub036: make unit")

CLIENTS = {
    "default": Client("", Path()),
    "without xet": Client("", Path(), more=(("HF_HUB_DISABLE_XET", "1"),)),
    "0.36": Client("", Path(), python=str(OLDER)),
}

WALK = """
import json, os, sys
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub import hf_hub_download, metadata_load, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

folder = sys.argv[1]
api = HfApi()
me = api.whoami()["name"]
repo = api.create_repo("digits", private=True).repo_id
assert repo == f"{me}/digits", repo
assert api.create_repo(repo, exist_ok=True).repo_id == repo
assert api.repo_exists(repo) and not api.repo_exists("al/none")

pack = os.urandom(3_000_001)
first = api.create_commit(repo, [
    CommitOperationAdd("model.lotta.safetensors", pack),
    CommitOperationAdd("README.md", b"---\\nlicense: mit\\nlibrary_name: lottapack\\n---\\n# Digits"),
    CommitOperationAdd("sub/ö.txt", b"umlaut"),
], commit_message="one", commit_description="why")
second = api.upload_file(path_or_fileobj=b"new", path_in_repo="sub/ö.txt", repo_id=repo, parent_commit=first.oid)
try:
    api.upload_file(path_or_fileobj=b"late", path_in_repo="x", repo_id=repo, parent_commit=first.oid)
    raise SystemExit("412 expected")
except HfHubHTTPError as fault:
    assert fault.response.status_code == 412

api.create_tag(repo, tag="v1", revision=first.oid)
api.create_tag(repo, tag="v1", exist_ok=True)
api.create_branch(repo, branch="feat/x", revision="v1")
api.create_branch(repo, branch="feat/x", exist_ok=True)
third = api.create_commit(repo, [
    CommitOperationDelete("sub/"), CommitOperationCopy("model.lotta.safetensors", "copy.safetensors"),
], commit_message="three", revision="feat/x")
refs = api.list_repo_refs(repo)
assert {one.name: one.target_commit for one in refs.branches + refs.tags} == {
    "main": second.oid, "v1": first.oid, "feat/x": third.oid}
assert [one.title for one in api.list_repo_commits(repo)] == [second.commit_message, "one", "initial commit"]
assert api.list_repo_commits(repo)[1].message == "why"
assert api.list_repo_files(repo, revision="feat/x") == ["README.md", "copy.safetensors", "model.lotta.safetensors"]

path = hf_hub_download(repo, "model.lotta.safetensors", revision="v1")
assert open(path, "rb").read() == pack
assert os.path.basename(os.path.dirname(path)) == first.oid
assert open(hf_hub_download(repo, "sub/ö.txt"), "rb").read() == b"new"
assert sorted(os.listdir(snapshot_download(repo, revision="feat/x"))) == [
    "README.md", "copy.safetensors", "model.lotta.safetensors"]
info = api.model_info(repo, files_metadata=True)
assert (info.sha, info.private, info.library_name, info.card_data.license) == (second.oid, True, "lottapack", "mit")
import hashlib
[held] = [one for one in info.siblings if one.rfilename == "model.lotta.safetensors"]
assert (held.lfs.sha256, held.lfs.size) == (hashlib.sha256(pack).hexdigest(), len(pack))
assert [one.path for one in api.get_paths_info(repo, ["sub", "README.md", "none"])] == ["README.md", "sub"]
assert [one.id for one in api.list_models(author=me)] == [repo]
assert list(api.list_models(author="nobody")) == []

for call, kind in (
    (lambda: hf_hub_download(repo, "none"), EntryNotFoundError),
    (lambda: hf_hub_download(repo, "README.md", revision="v9"), RevisionNotFoundError),
    (lambda: hf_hub_download("al/none", "README.md"), RepositoryNotFoundError),
    (lambda: api.model_info("al/none"), RepositoryNotFoundError),
    (lambda: api.model_info(repo, token=False), RepositoryNotFoundError),
    (lambda: api.create_commit(repo, [CommitOperationDelete("none")], commit_message="x"), EntryNotFoundError),
):
    try:
        call()
        raise SystemExit(f"{kind} expected")
    except kind:
        pass

for name in ("a", "b"):
    os.makedirs(os.path.join(folder, name), exist_ok=True)
    with open(os.path.join(folder, name, "file"), "w") as file:
        file.write(name)
api.upload_folder(repo_id=repo, folder_path=folder, path_in_repo="all", delete_patterns="*")
api.upload_folder(repo_id=repo, folder_path=folder, path_in_repo="all")  # nothing new: no commit
assert len(api.list_repo_commits(repo)) == 4
api.delete_file("all/a/file", repo)
api.delete_folder("all/b", repo)
api.delete_tag(repo, tag="v1")
api.delete_branch(repo, branch="feat/x")
api.move_repo(repo, f"{me}/moved")
assert api.model_info(repo).id == f"{me}/moved"
api.upload_file(path_or_fileobj=b"by the old name", path_in_repo="x", repo_id=repo)
api.update_repo_settings(f"{me}/moved", private=False)
assert not api.model_info(f"{me}/moved", token=False).private
api.delete_repo(f"{me}/moved")
api.delete_repo(f"{me}/moved", missing_ok=True)
print("walked")
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Running, list[Served]]]:
    log: list[Served] = []
    with background(tmp_path / "registry", log=log.append) as running:
        yield running, log


@pytest.mark.parametrize("name", ["default", "without xet", pytest.param("0.36", marks=needs_older)])
def test_the_whole_walk(served, tmp_path, name):
    running, log = served
    token = running.token("al", "write")
    (tmp_path / "folder").mkdir()
    client = CLIENTS[name]._replace(url=running.url, home=tmp_path / "home", token=token)
    assert client.run(WALK, tmp_path / "folder") == "walked"
    assert [one for one in log if one.status >= 500] == []
    assert files_in(running.root) == []


def test_the_versions_are_those_we_say(tmp_path):
    version = "import huggingface_hub; print(huggingface_hub.__version__)"
    assert CLIENTS["default"]._replace(home=tmp_path).run(version).startswith("2.")
    if OLDER.exists():
        assert CLIENTS["0.36"]._replace(home=tmp_path).run(version).startswith("0.36.")


def test_hf_uploads_and_downloads(served, tmp_path):
    running, log = served
    token = running.token("al", "write")
    (tmp_path / "a.bin").write_bytes(os.urandom(2_000_000))
    client = Client(running.url, tmp_path / "home", token=token)
    client.hf("upload", "org/model", tmp_path / "a.bin", "a.bin", "--quiet")
    sent = sum(one.received for one in log)
    client.hf("upload", "org/model", tmp_path / "a.bin", "a.bin", "--quiet")
    assert sum(one.received for one in log) - sent < 10_000
    other = Client(running.url, tmp_path / "other", token=token)
    path = other.hf("download", "org/model", "a.bin", "--quiet")
    assert Path(path).read_bytes() == (tmp_path / "a.bin").read_bytes()
    assert other.hf("auth", "whoami").find("al") >= 0
    other.hf("cache", "verify", "org/model")


def test_transformers_opens_a_folder_that_was_exported_and_pushed(served, tmp_path):
    transformers = pytest.importorskip("transformers")
    running, _ = served
    config = transformers.BertConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    lottapack.pack(
        lottapack.scaffold(transformers.BertModel(config), seed=1, rank=2), tmp_path / "bert.lotta.safetensors"
    )
    folder = tmp_path / "full"
    lottapack.export(tmp_path / "bert.lotta.safetensors", folder, format="transformers")
    client = Client(running.url, tmp_path / "home")
    client.hf("upload", "org/bert", folder, ".", "--quiet")
    code = """
import json, sys, torch
from transformers import AutoModel
model = AutoModel.from_pretrained("org/bert")
torch.save({name: value for name, value in model.state_dict().items()}, sys.argv[1])
print(json.dumps(type(model).__name__))
"""
    other = Client(running.url, tmp_path / "other")
    assert json.loads(other.run(code, tmp_path / "state.pt")) == "BertModel"
    state = torch.load(tmp_path / "state.pt")
    merged = lottapack.load(tmp_path / "bert.lotta.safetensors", merge=True).state_dict()
    assert state.keys() == merged.keys()
    assert all(torch.equal(state[name], value) for name, value in merged.items())


def test_what_is_pushed_has_the_ids_that_clients_compute(served, tmp_path):
    running, _ = served
    client = Client(running.url, tmp_path / "home")
    code = """
from huggingface_hub import HfApi
from huggingface_hub.utils import sha
api = HfApi(); api.create_repo("org/x")
api.upload_file(path_or_fileobj=b"content", path_in_repo="a", repo_id="org/x")
[held] = api.get_paths_info("org/x", "a")
assert held.blob_id == sha.git_hash(b"content")
"""
    client.run(code)
    assert ask(running.url, "GET", "/org/x/resolve/main/a").body == b"content"


def test_the_list_of_agents_is_asked_for_once(tmp_path):
    """What docs/serve.md says: the client keeps the answer in HF_HOME; after a failure each process asks again."""
    asked: list[str] = []
    with background(tmp_path / "registry", log=lambda served: asked.append(served.path)) as running:
        client = Client(running.url, tmp_path / "home")
        look = "from huggingface_hub.utils._detect_agent import _load_registry; print(_load_registry())"
        for _ in range(2):
            assert client.run(look) == "{'standardEnvVars': [], 'harnesses': {}}"
        assert asked == ["/api/agent-harnesses"]
        elsewhere = Client(f"{running.url}/nothing", tmp_path / "home")
        elsewhere.run(look)
        assert len(asked) == 1
        failing = Client(f"{running.url}/nothing", tmp_path / "other")
        for _ in range(2):
            failing.run(look)
        assert asked[1:] == ["/nothing/api/agent-harnesses"] * 2
