"""Links and pipes in every kind of input folder; one rule holds for all (lottapack.files.links)."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from models import trained
from safetensors.torch import save_file
from torch import nn

import lottapack
from lottapack.errors import CheckpointError, SignatureError

NAME = "model.lotta.safetensors"
OUT = "out.lotta.safetensors"


@pytest.fixture
def adapter(tmp_path):
    """Write the folder of a PEFT adapter with its base, as export() does."""
    model = lottapack.scaffold(nn.Sequential(nn.Linear(16, 24), nn.Linear(24, 8)), seed=3, rank=2, beta=1.0)
    lottapack.pack(model, tmp_path / "a")
    lottapack.export(tmp_path / "a", tmp_path / "adapter", format="peft")
    lottapack.pack(tmp_path / "adapter", tmp_path / "due")
    return tmp_path / "adapter"


def move_out(path: Path, name: str = "elsewhere") -> Path:
    """Replace a file by a link."""
    target = path.parents[2 if path.parent.name == "base" else 1] / name
    path.rename(target)
    path.symlink_to(target)
    return target


@pytest.mark.parametrize("what", ["adapter_config.json", "adapter_model.safetensors", f"base/{NAME}", "base"])
def test_links_out_of_an_adapters_folder_are_refused(what, adapter, tmp_path):
    target = move_out(adapter / what)
    with pytest.raises(CheckpointError, match="links to") as caught:
        lottapack.pack(adapter, tmp_path / OUT)
    assert str(target) in str(caught.value)
    assert not (tmp_path / OUT).exists()


def test_the_base_that_lies_beside_the_adapter_is_in_the_folder_around_both(adapter, tmp_path):
    (tmp_path / "run").mkdir()
    (adapter / "base").rename(tmp_path / "run" / "base")
    adapter.rename(tmp_path / "run" / "adapter")
    assert lottapack.pack(tmp_path / "run" / "adapter", tmp_path / OUT).size == (tmp_path / "due").stat().st_size
    move_out(tmp_path / "run" / "base")
    with pytest.raises(CheckpointError, match="outside of its folder"):
        lottapack.pack(tmp_path / "run" / "adapter", tmp_path / OUT)


def test_links_out_of_a_base_that_is_named_are_refused_and_a_file_that_is_named_is_read(adapter, tmp_path):
    (adapter / "base").rename(tmp_path / "mine")
    target = move_out(tmp_path / "mine" / NAME)
    with pytest.raises(CheckpointError, match="outside of its folder"):
        lottapack.pack(adapter, tmp_path / OUT, base=tmp_path / "mine")
    for named in (tmp_path / "mine" / NAME, target):
        lottapack.pack(adapter, tmp_path / OUT, base=named)
        assert (tmp_path / OUT).read_bytes() == (tmp_path / "due").read_bytes()


@pytest.mark.parametrize("below", ["", "checkpoint-7"])
def test_the_links_of_a_hubs_cache_are_followed(below, adapter, tmp_path):
    """Snapshots link to blobs of the same repository, also from subfolders."""
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0"
    blobs.mkdir(parents=True)
    for number, path in enumerate(path for path in sorted(adapter.rglob("*")) if path.is_file()):
        place = snapshot / below / path.relative_to(adapter)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(blobs / str(number))
        place.symlink_to(os.path.relpath(blobs / str(number), place.parent))
    lottapack.pack(snapshot / below, tmp_path / OUT)
    assert (tmp_path / OUT).read_bytes() == (tmp_path / "due").read_bytes()
    (blobs / "0").rename(tmp_path / "elsewhere")
    (blobs / "0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="outside of its folder"):
        lottapack.pack(snapshot / below, tmp_path / OUT)


def test_links_within_a_folder_are_its_own(adapter, tmp_path):
    (adapter / "kept").mkdir()
    (adapter / "adapter_model.safetensors").rename(adapter / "kept" / "weights")
    (adapter / "adapter_model.safetensors").symlink_to("kept/weights")
    (tmp_path / "named").symlink_to(adapter)
    lottapack.pack(tmp_path / "named", tmp_path / OUT)
    assert (tmp_path / OUT).read_bytes() == (tmp_path / "due").read_bytes()


@pytest.mark.parametrize("what", ["adapter_config.json", f"base/{NAME}"])
def test_pipes_are_no_files(what, adapter, tmp_path):
    """Reading a pipe would block forever."""
    (adapter / what).unlink()
    os.mkfifo(adapter / what)
    with pytest.raises(CheckpointError, match="is not a regular file"):
        lottapack.pack(adapter, tmp_path / OUT)


@pytest.fixture
def plain(tmp_path):
    """Write a folder of plain weights drawn by torch, with their architecture."""
    pytest.importorskip("transformers")
    from training_models import BUILD

    torch.manual_seed(5)
    BUILD["gpt2"]().save_pretrained(tmp_path / "plain")
    return tmp_path / "plain"


@pytest.mark.parametrize("named", [True, False])
def test_an_architecture_is_not_read_through_a_link_or_a_pipe(named, plain, tmp_path):
    options = {"seed": 5, "architecture": plain if named else None}
    lottapack.pack(lottapack.recover.torch_cpu(plain, **options), tmp_path / OUT)
    (tmp_path / OUT).unlink()
    move_out(plain / "config.json")
    with pytest.raises(CheckpointError, match=r"config\.json links to"):
        lottapack.pack(lottapack.recover.torch_cpu(plain, **options), tmp_path / OUT)
    (plain / "config.json").unlink()
    os.mkfifo(plain / "config.json")
    with pytest.raises(CheckpointError, match="is not a regular file"):
        lottapack.pack(lottapack.recover.torch_cpu(plain, **options), tmp_path / OUT)
    assert not (tmp_path / OUT).exists()


def test_from_pretrained_follows_no_link_to_a_pack(tmp_path):
    transformers = pytest.importorskip("transformers")
    lottapack.pack(trained("gpt2"), tmp_path / "a")
    lottapack.export(tmp_path / "a", tmp_path / "folder", format="transformers-pack")
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "folder")
    move_out(tmp_path / "folder" / NAME)
    with pytest.raises(CheckpointError, match="outside of its folder"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "folder")


@pytest.mark.parametrize("where", ["org/model", "oci://127.0.0.1:9/org/model:v1"])
def test_what_lies_beside_a_pack_is_not_sent_through_a_link(where, tmp_path):
    """Such as a signature that links to a private key. (No server answers at these addresses.)"""
    pack = tmp_path / "folder" / NAME
    pack.parent.mkdir()
    lottapack.pack(trained("mlp"), pack)
    (tmp_path / "id_rsa").write_text("private")
    Path(f"{pack}.sig").symlink_to("../id_rsa")
    with pytest.raises(SignatureError, match=r"\.sig links to"):
        lottapack.push(pack, where)


def test_shards_and_indices_go_by_the_same_rule(tmp_path):
    state = {name: value.contiguous() for name, value in trained("mlp").state_dict().items()}
    (tmp_path / "folder" / "parts").mkdir(parents=True)
    save_file(state, tmp_path / "folder" / "parts" / "one.safetensors")
    (tmp_path / "folder" / "one.safetensors").symlink_to("parts/one.safetensors")
    index = {"weight_map": dict.fromkeys(state, "one.safetensors")}
    (tmp_path / "folder" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert lottapack.pack(tmp_path / "folder", tmp_path / OUT).size
    shutil.move(tmp_path / "folder" / "parts", tmp_path / "parts")
    (tmp_path / "folder" / "parts").symlink_to("../parts")
    with pytest.raises(CheckpointError, match="outside of its folder"):
        lottapack.pack(tmp_path / "folder", tmp_path / OUT)
