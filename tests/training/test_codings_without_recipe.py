"""Codings of checkpoints without a recipe: models drawn by torch, and merged weights."""

import json

import pytest
import torch
from models import all_bits, train
from safetensors.torch import load_file, save_file
from torch import nn

import lottapack
from lottapack.packing.storing import errors

FORMS = ("--stored-dtype", "fp16", "--coding", "embeddings=int8-block64")
COMPRESSION = lottapack.Compression(dtype="float16", coding={"embeddings": "int8-block64"})
FIRST, AGAIN = "first.lotta.safetensors", "again.lotta.safetensors"


def plain():
    return nn.Sequential(nn.Embedding(300, 20), nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 40), nn.Linear(40, 9))


@pytest.fixture(params=["torch-cpu", "merged"])
def given(request, tmp_path):
    """Return a checkpoint with trained embeddings and head, its weights, and how to pack it."""
    if request.param == "torch-cpu":
        torch.manual_seed(3)
        model = plain()
        with torch.no_grad():
            for tensor in (model[0].weight, model[4].weight):
                tensor += 0.1 * torch.randn(tensor.shape)
        line = ("--rng", "torch-cpu", "--seed", 3)
    else:
        model = train(lottapack.scaffold(plain(), seed=7, rank=2, train=["embeddings", "heads", "norms", "biases"]))
        with torch.no_grad():
            model[0].weight.copy_(torch.randn(300, 20, generator=torch.Generator().manual_seed(1)))
        lottapack.pack(model, tmp_path / "original")
        model = lottapack.load(tmp_path / "original", merge=True)
        line = ("--from-merged", "--seed", 7, "--max-rank", 3)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    lottapack.pack(lottapack.scaffold(plain(), seed=0, rank=1), tmp_path / "other")
    with lottapack.open_pack(tmp_path / "other") as pack:
        made = pack.descriptor.architecture
    arch = tmp_path / "arch.json"
    arch.write_text(json.dumps({"family": made.family, "class": made.class_, "config": made.config}))
    return model.state_dict(), ("pack", tmp_path / "model.safetensors", *line, "--arch", arch, "-o", tmp_path / FIRST)


def test_the_whole_way(given, run, tmp_path):
    """Pack, verify, load, export; the loaded model packs to the same file."""
    state, line = given
    uncoded = json.loads(run(*line, "--json").out)
    result = run(*line, *FORMS)
    assert result.code == 0, result.err
    assert "kept in another form" in result.out
    found = json.loads(run(*line, *FORMS, "--json").out)
    assert found["size"] < uncoded["size"] - 300 * 20 * 2.5
    kept = {one["name"]: one for one in found["kept"]}
    assert kept["0.weight"]["form"] == "int8-block64"
    assert run("verify", tmp_path / FIRST).code == 0
    loaded = lottapack.load(tmp_path / FIRST)
    decoded = loaded.state_dict()["0.weight"]
    assert (kept["0.weight"]["worst"], kept["0.weight"]["mean"]) == errors(state["0.weight"], decoded)[:2]
    assert 0 < kept["0.weight"]["worst"] < 0.05
    merged = lottapack.load(tmp_path / FIRST, merge=True)
    assert run("export", tmp_path / FIRST, "-o", tmp_path / "plain.safetensors").code == 0
    exported = load_file(tmp_path / "plain.safetensors")
    assert exported.keys() == all_bits(merged).keys()
    assert all(torch.equal(value, merged.state_dict()[name]) for name, value in exported.items())
    lottapack.pack(loaded, tmp_path / AGAIN, compression=COMPRESSION)
    assert (tmp_path / AGAIN).read_bytes() == (tmp_path / FIRST).read_bytes()


def test_what_is_stored_counts_as_it_lies_in_the_file(given, run, tmp_path):
    """The reported bytes of a stored weight are its real ones."""
    _, line = given
    found = json.loads(run(*line, *FORMS, "--json").out)
    sizes = found["stored_instead"] or {layer["name"]: layer["size"] for layer in found["layers"]}
    assert sizes["0.weight"] == 300 * 20 + 2 * -(-300 * 20 // 64)


def test_merged_weights_that_are_kept_narrower_are_off_by_what_is_said(run, tmp_path):
    """The error of a layer is the search's; rounding to float16 is listed with the adapter's tensors."""
    model = lottapack.scaffold(plain(), seed=7, rank=2)
    lottapack.pack(train(model), tmp_path / "original")
    weights = lottapack.load(tmp_path / "original", merge=True)
    options = {"seed": 7, "max_rank": 3, "architecture": plain()}
    exact = lottapack.pack(lottapack.recover.merged(weights, **options), tmp_path / FIRST)
    narrow = lottapack.pack(
        lottapack.recover.merged(weights, **options),
        tmp_path / AGAIN,
        compression=lottapack.Compression(dtype="float16"),
    )
    assert [layer.error for layer in exact.layers] == [layer.error for layer in narrow.layers]
    kept = {one.name: one.worst for one in narrow.kept if one.group == "adapter"}
    assert {name.rpartition(".")[2] for name in kept} == {"lora_A", "lora_B"}
    before, after = (lottapack.load(tmp_path / name).state_dict() for name in (FIRST, AGAIN))
    assert all(kept[name] == errors(before[name], after[name])[0] > 0 for name in kept)


def test_an_error_over_the_bound_is_refused_where_torch_drew(tmp_path):
    torch.manual_seed(3)
    model = plain()
    with torch.no_grad():
        model[0].weight += torch.randn(300, 20)
    options = {"seed": 3, "architecture": plain()}
    compression = lottapack.Compression(coding="normal4-block64", max_error=0.05)
    with pytest.raises(lottapack.errors.CheckpointError, match=r"0\.weight as normal4-block64 .* max_error is 0\.05"):
        lottapack.pack(lottapack.recover.torch_cpu(model, **options), tmp_path / FIRST, compression=compression)
    assert list(tmp_path.iterdir()) == []


def test_the_tolerance_is_that_of_the_search_alone(run, tmp_path):
    save_file(plain().state_dict(), tmp_path / "model.safetensors")
    line = ("pack", tmp_path / "model.safetensors", "--tolerance", 0.1, "--coding", "int8-block64")
    result = run(*line)
    assert (result.code, result.out) == (2, "")
    said = " ".join(result.err.replace("│", " ").split())
    assert "--tolerance is only valid with --from-merged; --max-error" in said


def test_merged_weights_in_a_given_size(tmp_path):
    """max_error and max_size work for every source of a pack, beside the search's own error."""
    model = train(lottapack.scaffold(plain(), seed=7, rank=2))
    lottapack.pack(model, tmp_path / "original")
    weights = lottapack.load(tmp_path / "original", merge=True)
    found = lottapack.recover.merged(weights, seed=7, max_rank=3, architecture=plain())
    exact = lottapack.pack(found, tmp_path / FIRST)
    limit = exact.size // 2
    small = lottapack.pack(found, tmp_path / AGAIN, compression=lottapack.Compression(max_size=limit))
    assert small.size == (tmp_path / AGAIN).stat().st_size <= limit
    assert [layer.error for layer in exact.layers] == [layer.error for layer in small.layers]
    assert {kept.form for kept in small.kept} == {"trellis8"}
    near = lottapack.pack(found, tmp_path / AGAIN, compression=lottapack.Compression(max_error=0.01))
    assert 0 < max(kept.rms for kept in near.kept) <= 0.01


@pytest.mark.parametrize("option", [{"key": "a"}, {"ignore": "b"}, {"base": "c"}, {"allow": "d"}])
def test_options_of_reading_belong_to_the_reading(option, tmp_path):
    torch.manual_seed(3)
    found = lottapack.recover.torch_cpu(plain(), seed=3)
    with pytest.raises(
        lottapack.errors.CheckpointError, match=f"`{next(iter(option))}` only applies to reading a checkpoint"
    ):
        lottapack.pack(found, tmp_path / FIRST, **option)
    assert repr(found) == "<Recovered Sequential: 7 seeded>"
