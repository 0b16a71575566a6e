"""Full checkpoints in streamed shards: the same bytes as written whole, never partial."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from models import all_bits, bits, trained
from safetensors.torch import load_file, save
from torch import nn

import lottapack
from lottapack.errors import OutputError
from lottapack.limits import bytes_of
from lottapack.weights import part_tensors


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    path = tmp_path_factory.mktemp("pack") / "llama"
    lottapack.pack(trained("llama"), path)
    return path


def names(folder):
    return sorted(item.name for item in folder.iterdir())


@pytest.mark.parametrize("piece", [5, 1 << 20])
def test_one_file_is_what_safetensors_writes(llama, piece, tmp_path, monkeypatch):
    monkeypatch.setattr(part_tensors, "PIECE", piece)
    for dtype in (None, torch.bfloat16):
        merged = lottapack.load(llama, merge=True, dtype=dtype).state_dict()
        expected = save({name: tensor.clone() for name, tensor in merged.items()}, {"format": "pt"})
        written = lottapack.export(llama, tmp_path / "one.safetensors", dtype=dtype).read_bytes()
        length = int.from_bytes(written[:8], "little")
        theirs = int.from_bytes(expected[:8], "little")
        assert json.loads(written[8 : 8 + length]) == json.loads(expected[8 : 8 + theirs])
        assert written[8 + length :] == expected[8 + theirs :]


def test_shards_are_what_transformers_opens(llama, tmp_path):
    folder = tmp_path / "folder"
    index = lottapack.export(llama, folder, format="transformers", max_shard_size="4kB")
    assert index == folder / "model.safetensors.index.json"
    said = json.loads(index.read_text())
    files = sorted(set(said["weight_map"].values()))
    assert files == [f"model-{n:05}-of-{len(files):05}.safetensors" for n in range(1, len(files) + 1)]
    assert len(files) > 2
    assert names(folder) == sorted([*files, "config.json", index.name])
    total = 0
    for file in files:
        held = load_file(folder / file)
        size = sum(tensor.nbytes for tensor in held.values())
        assert size <= 4000 or len(held) == 1
        assert all(said["weight_map"][name] == file for name in held)
        total += size
    assert said["metadata"] == {"total_size": total}
    opened, info = type(trained("llama")).from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    assert all_bits(opened.eval()) == all_bits(lottapack.load(llama, merge=True))


def test_a_limit_that_fits_gives_one_file(llama, tmp_path):
    for form in ("safetensors", "transformers"):
        written = lottapack.export(llama, tmp_path / form, format=form, max_shard_size="1GB")
        assert written == tmp_path / form / "model.safetensors"
    plain = lottapack.export(llama, tmp_path / "plain.safetensors")
    assert plain.read_bytes() == (tmp_path / "safetensors" / "model.safetensors").read_bytes()


def test_nothing_of_another_checkpoint_stays_beside_it(llama, tmp_path):
    folder = tmp_path / "folder"
    (tmp_path / "folder").mkdir()
    (folder / "notes.txt").write_text("mine")
    lottapack.export(llama, folder, max_shard_size=4000)
    many = [name for name in names(folder) if name.startswith("model-")]
    lottapack.export(llama, folder, max_shard_size=6000)
    fewer = [name for name in names(folder) if name.startswith("model-")]
    assert not set(many) & set(fewer)
    assert names(folder) == sorted([*fewer, "model.safetensors.index.json", "notes.txt"])
    lottapack.export(llama, folder)
    assert names(folder) == ["model.safetensors", "notes.txt"]
    lottapack.export(llama, folder, max_shard_size=4000)
    assert names(folder) == sorted([*many, "model.safetensors.index.json", "notes.txt"])


class Stop(BaseException):
    pass


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("fault", [Stop(), OSError(28, "No space left on device")])
def test_an_interruption_or_a_full_disk_leaves_what_was_there(llama, there, fault, tmp_path):
    folder = tmp_path / "folder"
    if there:
        lottapack.export(llama, folder, format="transformers", max_shard_size="4kB", dtype=torch.bfloat16)
    before = {path.name: path.read_bytes() for path in folder.iterdir()} if there else None

    def stop(done, total):
        if done > total / 2:
            raise fault

    expected = (Stop, None) if isinstance(fault, Stop) else (lottapack.errors.OutputError, "No space left")
    with pytest.raises(expected[0], match=expected[1]):
        lottapack.export(llama, folder, format="transformers", max_shard_size="4kB", progress=stop)
    assert folder.exists() == there
    if there:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_damaged_pack_is_found_before_anything_appears(llama, tmp_path):
    data = bytearray(llama.read_bytes())
    data[-1] ^= 1
    (tmp_path / "damaged").write_bytes(data)
    with pytest.raises(lottapack.errors.IntegrityError):
        lottapack.export(tmp_path / "damaged", tmp_path / "out", max_shard_size="4kB")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", ["", "5", "5GB", "5gb", "500 MB", "2GiB", "1.5kB", 7])
def test_sizes(size):
    known = {"5": 5, "5GB": 5e9, "5gb": 5e9, "500 MB": 5e8, "2GiB": 2**31, "1.5kB": 1500, 7: 7}
    if size in known:
        assert bytes_of(size, "max_shard_size") == known[size]
    else:
        with pytest.raises(lottapack.errors.UnsupportedError, match="is not a size"):
            bytes_of(size, "max_shard_size")


@pytest.mark.parametrize("size", ["5XB", "-1GB", "0", 0, -3, "GB", "1e9", True, 1.5, 2**63, "99999999TB"])
def test_sizes_that_are_none_are_refused(size, llama, tmp_path):
    with pytest.raises(lottapack.errors.UnsupportedError, match="is not a size"):
        lottapack.export(llama, tmp_path / "out", max_shard_size=size)
    assert not (tmp_path / "out").exists()


def test_shards_where_they_make_no_sense_are_refused(llama, tmp_path):
    with pytest.raises(lottapack.errors.UnsupportedError, match="the format peft does not use `max_shard_size`"):
        lottapack.export(llama, tmp_path / "out", format="peft", max_shard_size="5GB")
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(lottapack.errors.OutputError, match="cannot write shards to"):
        lottapack.export(llama, tmp_path / "file", max_shard_size="5GB")
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("form", "options", "unused"),
    [
        ("files", {"dtype": "float16"}, "`dtype`"),
        ("files", {"device": "cuda", "max_bytes": 10}, "`max_bytes` and `device`"),
        ("transformers-pack", {"device": "cuda"}, "`device`"),
        ("transformers-pack", {"max_bytes": 10}, "`max_bytes`"),
        ("peft", {"dtype": "float16", "max_bytes": 10}, "`dtype` and `max_bytes`"),
        ("gguf", {"device": "cuda", "max_shard_size": "1GB"}, "`max_shard_size` and `device`"),
        ("onnx", {"max_shard_size": "1GB"}, "`max_shard_size`"),
    ],
)
def test_options_that_a_format_does_not_use_are_refused(form, options, unused, llama, tmp_path):
    with pytest.raises(lottapack.errors.UnsupportedError, match=f"the format {form} does not use {unused}\n"):
        lottapack.export(llama, tmp_path / "out", format=form, **options)
    assert not (tmp_path / "out").exists()


def test_memory_does_not_grow_with_the_model(tmp_path):
    """Export a 128 MiB matrix in a process limited to 64 MiB above its start."""
    model = nn.Sequential(nn.Linear(8192, 4096, bias=False))
    lottapack.pack(lottapack.scaffold(model, seed=1, rank=2, targets=["0"]), tmp_path / "pack")
    script = (
        "import resource, sys, torch, lottapack\n"
        "lottapack.export(sys.argv[1], sys.argv[2])\n"  # compiles what it needs, and takes its working memory
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "lottapack.export(sys.argv[3], sys.argv[4])\n"
        "print(peak() - before)\n"
    )
    little = nn.Sequential(nn.Linear(2048, 1024, bias=False))
    lottapack.pack(lottapack.scaffold(little, seed=1, rank=2, targets=["0"]), tmp_path / "small")
    arguments = [tmp_path / "small", tmp_path / "a", tmp_path / "pack", tmp_path / "b"]
    path = os.pathsep.join(str(folder) for folder in (Path(lottapack.__file__).parents[1],))
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert (tmp_path / "b").stat().st_size > 128 * 2**20
    assert int(done.stdout) < 64 * 1024
    assert bits(load_file(tmp_path / "b")["0.weight"]) == bits(lottapack.load(tmp_path / "pack", merge=True)[0].weight)


@pytest.mark.parametrize("form", ["safetensors", "transformers", "transformers-pack"])
@pytest.mark.parametrize(
    "name",
    ["model-00002-of-00002.safetensors", "model.safetensors.index.json", "config.json", "generation_config.json"],
)
def test_the_input_is_never_replaced_or_removed(name, form, llama, tmp_path):
    mine = tmp_path / name
    mine.write_bytes(llama.read_bytes())
    options = {} if form == "transformers-pack" else {"max_shard_size": "20kB"}
    try:
        lottapack.export(mine, tmp_path, format=form, **options)
    except OutputError as fault:
        assert "is the input file" in fault.message
        assert names(tmp_path) == [name]
    assert mine.read_bytes() == llama.read_bytes()


def test_a_pack_becomes_a_folder_where_it_is(llama, tmp_path):
    mine = tmp_path / "model.lotta.safetensors"
    mine.write_bytes(llama.read_bytes())
    assert lottapack.export(mine, tmp_path, format="transformers-pack") == mine
    assert mine.read_bytes() == llama.read_bytes()
