"""Hostile checkpoints and folders: code, links, pipes, and paths out of them."""

import hashlib
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from models import trained
from safetensors.torch import save_file

import lottapack
from lottapack.errors import ArchitectureError, CheckpointError, ContainerError, IntegrityError
from lottapack.folders import reading
from lottapack.format.descriptor import Architecture

RAN: list[str] = []


def run():
    RAN.append("ran")


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return run, ()


def pickles(folder: Path) -> list[Path]:
    """Write pickles in every format and under every name of a checkpoint."""
    content = {"weight": torch.zeros(2), "x": Code()}
    torch.save(content, folder / "zip")
    torch.save(content, folder / "old", _use_new_zipfile_serialization=False)
    (folder / "bare").write_bytes(pickle.dumps(Code()))
    (folder / "protocol0").write_bytes(pickle.dumps(Code(), protocol=0))
    with zipfile.ZipFile(folder / "storage", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Code(), protocol=2))
        archive.writestr("archive/version", "3\n")
    ends = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".lotta.safetensors")
    sources = ("zip", "old", "bare", "protocol0", "storage")
    return [Path(shutil.copy(folder / source, folder / f"{source}{end}")) for source in sources for end in ends]


def test_no_pickle_runs_whatever_its_name(tmp_path):
    RAN.clear()
    for path in pickles(tmp_path):
        with pytest.raises(CheckpointError, match="as tensors"):
            lottapack.pack(path, tmp_path / "out.lotta.safetensors")
        for read in (lottapack.load, lottapack.verify, lottapack.inspect, lottapack.report):
            with pytest.raises(ContainerError):
                read(path)
    assert RAN == []
    pickle.loads((tmp_path / "bare").read_bytes())
    assert RAN == ["ran"]  # so these pickles would


def test_nothing_is_read_again_in_a_laxer_way(tmp_path, monkeypatch):
    asked = []
    real = torch.load

    def load(*arguments, **options):
        asked.append(options.get("weights_only"))
        return real(*arguments, **options)

    monkeypatch.setattr(torch, "load", load)
    torch.save({"x": Code()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError):
        lottapack.pack(tmp_path / "a.pt", tmp_path / "out")
    assert asked == [True]


@pytest.fixture
def folder(tmp_path):
    """Write a checkpoint in two shards."""
    state = trained("mlp").state_dict()
    names = sorted(state)
    (tmp_path / "folder").mkdir()
    shards = {"one.safetensors": names[:3], "two.safetensors": names[3:]}
    for shard, part in shards.items():
        save_file({name: state[name].contiguous() for name in part}, tmp_path / "folder" / shard)
    index = {name: shard for shard, part in shards.items() for name in part}
    (tmp_path / "folder" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return tmp_path / "folder"


def test_links_inside_a_folder_are_followed(folder, tmp_path):
    """As in a Hub cache: snapshots of links to blobs."""
    lottapack.pack(folder, tmp_path / "plain")
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--a--b" / "blobs").mkdir()
    for path in folder.iterdir():
        path.rename(tmp_path / "models--a--b" / "blobs" / path.name)
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", path.name))
    lottapack.pack(snapshot, tmp_path / "cached")
    assert (tmp_path / "cached").read_bytes() == (tmp_path / "plain").read_bytes()


@pytest.mark.parametrize("name", ["one.safetensors", "model.safetensors.index.json"])
@pytest.mark.parametrize("absolute", [True, False])
def test_links_out_of_a_folder_are_refused(name, absolute, folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / name).rename(tmp_path / "elsewhere" / name)
    (folder / name).symlink_to((tmp_path if absolute else Path("..")) / "elsewhere" / name)
    with pytest.raises(CheckpointError, match="outside of its folder") as caught:
        lottapack.pack(folder, tmp_path / "out")
    assert "name it directly" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_link_that_a_person_names_is_followed(tmp_path):
    model = trained("mlp")
    (tmp_path / "elsewhere").mkdir()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "elsewhere" / "a.safetensors")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "elsewhere" / "a.safetensors")
    assert lottapack.pack(tmp_path / "link.safetensors", tmp_path / "out").size


def test_a_hard_link_is_a_file(folder, tmp_path):
    """It cannot be told from any other; what is packed does not share its bytes."""
    (folder / "one.safetensors").rename(tmp_path / "one")
    os.link(tmp_path / "one", folder / "one.safetensors")
    before = (tmp_path / "one").read_bytes()
    lottapack.pack(folder, folder / "one.lotta.safetensors")
    assert (tmp_path / "one").read_bytes() == before
    with pytest.raises(lottapack.errors.OutputError, match="is the input file"):
        lottapack.pack(folder, folder / "two.safetensors")  # over one of its own shards
    os.link(folder / "one.lotta.safetensors", tmp_path / "kept")
    kept = (tmp_path / "kept").read_bytes()
    lottapack.pack(trained("cnn"), folder / "one.lotta.safetensors")
    assert (tmp_path / "kept").read_bytes() == kept


def test_links_in_a_circle_and_pipes_are_no_checkpoint(folder, tmp_path):
    (folder / "one.safetensors").unlink()
    (folder / "one.safetensors").symlink_to("one.safetensors")
    with pytest.raises(CheckpointError, match=r"one\.safetensors"):
        lottapack.pack(folder, tmp_path / "out")
    (folder / "one.safetensors").unlink()
    os.mkfifo(folder / "one.safetensors")
    with pytest.raises(CheckpointError, match=r"one\.safetensors"):
        lottapack.pack(folder, tmp_path / "out")
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(CheckpointError):
        lottapack.pack(tmp_path / "pipe.safetensors", tmp_path / "out")


OUT = ("../one.safetensors", "/etc/passwd", "sub/one.safetensors", "..", ".", "", "one.safetensors/..", "a\0b")


@pytest.mark.parametrize("shard", OUT)
def test_shards_that_leave_their_folder(shard, folder, tmp_path):
    shutil.copy(folder / "one.safetensors", tmp_path)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CheckpointError):
        lottapack.pack(folder, tmp_path / "out")
    with pytest.raises(CheckpointError):
        reading.read_checkpoint(index)


@pytest.fixture
def pack(tmp_path):
    lottapack.pack(trained("mlp"), tmp_path / "a.lotta.safetensors")
    return tmp_path / "a.lotta.safetensors"


def test_a_pack_that_is_replaced_while_it_is_open(pack, tmp_path):
    """An opened file is read to its end: not mapped, and its path opened once."""
    before = pack.read_bytes()
    lottapack.pack(trained("cnn"), tmp_path / "other")
    with lottapack.open_pack(pack) as opened:
        (tmp_path / "other").replace(pack)
        for info in opened.tensors.values():
            opened.read_bytes(info)
        assert opened.file_sha256() == hashlib.sha256(before).hexdigest()


@pytest.mark.parametrize("left", [0, 8, 100])
def test_a_pack_that_is_cut_while_it_is_open(left, tmp_path):
    """A mapping would end the process with SIGBUS. (A small pack is already in a buffer: of 128 KiB in Python 3.14.)"""
    pack = tmp_path / "a.lotta.safetensors"
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 1024))
    lottapack.pack(lottapack.scaffold(model, seed=1, rank=1, train="1"), pack)
    with lottapack.open_pack(pack) as opened:
        os.truncate(pack, left)
        with pytest.raises(IntegrityError, match="the file ended early"):
            for info in opened.tensors.values():
                opened.read_bytes(info)


NAMES = ("forward", "_modules", "__class__", "__init__", "__dict__", "training", "_parameters", "add_module")


@pytest.mark.parametrize("name", NAMES)
def test_children_cannot_take_the_place_of_what_a_module_is(name):
    """Names with underscores and of methods do not replace what the module has."""
    node = {"name": name, "class": "Tanh", "config": {}}
    architecture = Architecture(family="torch.nn", class_="Sequential", config={"children": [node]})
    with pytest.raises(ArchitectureError, match="cannot build"):
        lottapack.arch.build(architecture)
