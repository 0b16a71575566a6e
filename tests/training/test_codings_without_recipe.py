"""Codings of checkpoints that carry no recipe: models that torch drew, and merged weights."""

import json

import pytest
import torch
from models import all_bits, train
from safetensors.torch import load_file, save_file
from torch import nn

import lottapack
from lottapack.packing.storing import errors

FORMS = ("--stored-dtype", "fp16", "--coding", "embeddings=int8-block64")
OPTIONS = {"stored_dtype": "float16", "coding": {"embeddings": "int8-block64"}}
FIRST, AGAIN = "first.lotta.safetensors", "again.lotta.safetensors"


def plain():
    return nn.Sequential(nn.Embedding(300, 20), nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 40), nn.Linear(40, 9))


@pytest.fixture(params=["torch-cpu", "merged"])
def given(request, tmp_path):
    """A checkpoint whose embeddings and head were trained, its weights, and how it is packed."""
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
    """Packed, verified, loaded, exported; and what was loaded packs to the same file."""
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
    lottapack.pack(loaded, tmp_path / AGAIN, **OPTIONS)
    assert (tmp_path / AGAIN).read_bytes() == (tmp_path / FIRST).read_bytes()


def test_what_is_stored_counts_as_it_lies_in_the_file(given, run, tmp_path):
    """The bytes that are reported of a weight that had to be stored are those that it takes."""
    _, line = given
    found = json.loads(run(*line, *FORMS, "--json").out)
    sizes = found["stored_instead"] or {layer["name"]: layer["size"] for layer in found["layers"]}
    assert sizes["0.weight"] == 300 * 20 + 2 * -(-300 * 20 // 64)


def test_merged_weights_that_are_kept_narrower_are_off_by_what_is_said(run, tmp_path):
    """The error of a layer is the search's; what float16 adds is listed with the adapter's tensors."""
    model = lottapack.scaffold(plain(), seed=7, rank=2)
    lottapack.pack(train(model), tmp_path / "original")
    weights = lottapack.load(tmp_path / "original", merge=True)
    options = {"seed": 7, "max_rank": 3, "architecture": plain()}
    exact = lottapack.pack_merged(weights, tmp_path / FIRST, **options)
    narrow = lottapack.pack_merged(weights, tmp_path / AGAIN, stored_dtype="float16", **options)
    assert [layer.error for layer in exact.layers] == [layer.error for layer in narrow.layers]
    kept = {one.name: one.worst for one in narrow.kept if one.group == "adapter"}
    assert {name.rpartition(".")[2] for name in kept} == {"lora_A", "lora_B"}
    before, after = (lottapack.load(tmp_path / name).state_dict() for name in (FIRST, AGAIN))
    assert all(kept[name] == errors(before[name], after[name])[0] > 0 for name in kept)


def test_an_error_over_the_tolerance_is_refused_where_torch_drew(tmp_path):
    torch.manual_seed(3)
    model = plain()
    with torch.no_grad():
        model[0].weight += torch.randn(300, 20)
    options = {"seed": 3, "architecture": plain(), "coding": "normal4-block64"}
    with pytest.raises(lottapack.errors.CheckpointError, match=r"0\.weight as normal4-block64 .* tolerance is 0\.1"):
        lottapack.pack_torch_cpu(model, tmp_path / FIRST, tolerance=0.1, **options)
    assert list(tmp_path.iterdir()) == []


def test_two_meanings_of_tolerance_are_not_mixed(run, tmp_path):
    line = ("pack", tmp_path / "model.pt", "--from-merged", "--seed", 1, "--max-rank", 2, "--tolerance", 0.1)
    for form in (("--coding", "int8-block64"), ("--stored-dtype", "fp16")):
        result = run(*line, *form)
        assert (result.code, result.out) == (2, "")
        said = " ".join(result.err.replace("│", " ").split())
        assert "--tolerance is the error of a layer" in said
        assert "leave it out" in said


def test_wrong_forms_are_refused_before_anything_is_read(tmp_path):
    for pack in (lottapack.pack_torch_cpu, lottapack.pack_merged):
        more = {"max_rank": 1} if pack is lottapack.pack_merged else {}
        with pytest.raises(lottapack.errors.CheckpointError, match="'int4' is unknown"):
            pack(tmp_path / "absent.pt", tmp_path / FIRST, seed=1, architecture=plain(), coding="int4", **more)
