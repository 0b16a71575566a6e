"""VeRA and diagonal adapters: trained, packed, loaded and read everywhere."""

import json
import tracemalloc

import numpy as np
import pytest
import torch
from torch import nn

import lottapack
from lottapack.errors import CheckpointError, LimitError, ScaffoldError, UnusedOptionWarning
from lottapack.format import canonical
from lottapack.format.packfile import PackFile
from lottapack.weights import arrays, loaded_size

WAYS = [
    {"vera": True, "rank": 4, "beta": 1.0},
    {"vera": True, "rank": {"1": 48, "*": 6}},
    {"vera": True, "rank": 4, "beta": "output"},
    {"rank": 0, "beta": "output"},
    {"rank": 0, "beta": "input"},
    {"rank": 2, "beta": "input"},
    {"rank": {"1": 0, "*": 3}, "beta": "output"},
]


def network():
    return nn.Sequential(nn.Embedding(40, 24), nn.Linear(24, 32), nn.Conv1d(6, 8, 3), nn.Linear(30, 10))


def built(**options):
    return lottapack.scaffold(network(), **({"seed": 9, "targets": ["0", "1", "2"], "train": "heads"} | options))


def trained(**options):
    model = built(**options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += torch.randn(parameter.shape, generator=generator) * 0.1
    return model


def output(model):
    return model(torch.arange(6)[None] * 3)


def entries(path):
    with lottapack.open_pack(path) as pack:
        return pack.descriptor.parameters, set(pack.tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", WAYS, ids=str)
def test_every_reader_gives_the_same_bits(options, dtype, tmp_path):
    model = trained(**options).to(dtype)
    path = lottapack.pack(model, tmp_path / "a.lotta.safetensors").path
    assert lottapack.verify(path).ok
    loaded = lottapack.load(path)
    for name, value in model.state_dict().items():
        if name != "lottapack_recipe":
            assert torch.equal(loaded.state_dict()[name], value), name
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert {name for name, value in loaded.named_parameters() if not value.requires_grad} == frozen
    assert lottapack.pack(loaded, tmp_path / "b.lotta.safetensors").path.read_bytes() == path.read_bytes()
    merged = lottapack.load(path, merge=True)
    arrays = lottapack.numpy.load(path)
    for name, value in merged.state_dict().items():
        wide = np.asarray(arrays[name], np.float32)
        assert np.array_equal(wide, value.float().numpy()), name
        layer = loaded.get_submodule(name.rpartition(".")[0])
        if hasattr(layer, "merged_weight") and name.endswith("weight"):
            assert torch.equal(layer.merged_weight(), value)
    filled = lottapack.distributed.fill_(network().to(dtype), path).state_dict()
    assert all(torch.equal(filled[name], value) for name, value in merged.state_dict().items())


@pytest.mark.parametrize("backbone", ["materialised", "blocks", "virtual"])
@pytest.mark.parametrize("options", WAYS, ids=str)
def test_a_layer_computes_with_its_merged_weight(options, backbone):
    model = trained(**options, backbone=backbone, distribution="sign1")
    out = output(model)
    plain = network()
    with torch.no_grad():
        for name, layer in model.named_children():
            held = plain.get_submodule(name)
            held.load_state_dict({"weight": layer.weight.detach().clone()}, strict=False)
            if getattr(layer, "bias", None) is not None:
                held.bias.copy_(layer.bias)
            if hasattr(layer, "merged_weight"):
                assert torch.allclose(layer.weight, layer.merged_weight(), atol=1e-6)
        assert torch.allclose(out, output(plain), atol=2e-5)
    (gradient,) = torch.autograd.grad(out.square().sum(), [next(p for p in model[1].parameters() if p.requires_grad)])
    assert gradient.abs().max() > 0


def test_vera_starts_at_the_backbone_and_learns_vectors_alone():
    model, plain = built(vera=True, rank=4, beta=1.0), built(rank=4, beta=1.0)
    assert torch.equal(output(model), output(plain))
    learned = {name for name, value in model.named_parameters() if value.requires_grad}
    assert {name for name in learned if name.startswith("1.")} == {"1.lambda_b", "1.lambda_d"}
    assert model[1].lambda_d.eq(0.1).all()
    # Each layer has the first rows and columns of the largest factors.
    owner = model[0].lora_A  # an embedding of 40 inputs
    assert torch.equal(model[1].lora_A, owner[:, :24])
    assert torch.equal(model[2].lora_A, owner[:, :18])
    assert torch.equal(model[0].lora_B, model[1].lora_B[:24])


def test_a_pack_holds_only_the_vectors(tmp_path):
    options = {"vera": True, "rank": 64, "beta": 1.0}
    path = lottapack.pack(trained(**options), tmp_path / "a.lotta.safetensors").path
    parameters, tensors = entries(path)
    assert not any("lora" in name for name in tensors)
    codings = {
        f"{name}.{part}": (record.coding.id, record.coding.of)
        for name in ("0.weight", "1.weight", "2.weight")
        for part, record in parameters[name].adapter.tensors().items()
        if part.startswith("lora")
    }
    assert sorted({of for form, of in codings.values() if form == "slice"}) == ["0.weight", "1.weight"]
    assert [form for form, _ in codings.values()].count("seeded") == 2
    shown = {one.name: one for one in lottapack.inspect(path).parameters}
    assert shown["1.weight"].coding == "lora_A slice, lora_B seeded"
    assert shown["1.weight"].vectors == ("lambda_b", "lambda_d")
    assert lottapack.inspect(path).trained == sum((24 + 64, 32 + 64, 8 + 64)) + 300


def test_factors_count_before_any_memory_is_taken(tmp_path, monkeypatch):
    """The file holds a few kilobytes, and the factors that it names would take a hundred megabytes."""
    net = nn.Sequential(nn.Linear(3000, 8, bias=False), nn.Linear(8, 3000, bias=False))
    model = lottapack.scaffold(net, seed=1, rank=4000, vera=True, beta=1.0, targets=["0", "1"], train=[])
    path = lottapack.pack(model, tmp_path / "a.lotta.safetensors").path
    del model
    assert path.stat().st_size < 60_000
    monkeypatch.setattr(PackFile, "read_into", lambda *_: pytest.fail("a tensor was made"))
    for options in ({}, {"merge": True}):
        with pytest.raises(LimitError, match="needs"):
            lottapack.load(path, max_bytes=20_000_000, **options)
    with pytest.raises(LimitError, match="needs"):
        lottapack.numpy.load(path, max_bytes=20_000_000)


@pytest.mark.parametrize("threads", [1, 3])
def test_factors_of_all_threads_take_no_more_than_is_counted(threads, tmp_path, monkeypatch):
    layers = [nn.Linear(*sides, bias=False) for _ in range(3) for sides in ((1, 1024), (1024, 1))]
    model = lottapack.scaffold(nn.Sequential(*layers), seed=1, rank=2048, vera=True, beta=1.0, train=[])
    path = lottapack.pack(model, tmp_path / "a.lotta.safetensors").path
    del model
    for module in (lottapack.numpy, loaded_size, arrays):
        monkeypatch.setattr(module, "default", lambda: threads)
    with lottapack.open_pack(path) as pack:
        counted = 6 * 4096 + loaded_size.largest_drawn(pack, threads)
    lottapack.numpy.load(path)
    tracemalloc.start()
    try:
        lottapack.numpy.load(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert counted / 3 < peak < counted + 2_000_000
    with pytest.raises(LimitError, match="needs"):
        lottapack.numpy.load(path, max_bytes=counted - 1)


def test_a_recipe_with_broken_vectors_is_refused(tmp_path):
    model = trained(vera=True, rank=4)
    text = bytes(model.state_dict()["lottapack_recipe"].tolist())
    for old, new in (
        (b'"vectors":["lambda_b","lambda_d"]', b'"vectors":["lambda_d","lambda_b"]'),
        (b'"vectors":["lambda_b","lambda_d"]', b'"vectors":["lambda_b"]'),
        (b'"vectors":["lambda_b","lambda_d"]', b'"vectors":[]'),
        (b'"slices":{"lora_A":"0.weight"}', b'"slices":{}'),
        (b'"slices":{"lora_A":"0.weight"}', b'"slices":{"lora_A":"2.weight"}'),
    ):
        assert old in text
        broken = torch.frombuffer(bytearray(text.replace(old, new)), dtype=torch.uint8)
        with pytest.raises(CheckpointError, match="breaks the format"):
            lottapack.pack({**model.state_dict(), "lottapack_recipe": broken}, tmp_path / "a.lotta.safetensors")


def test_what_does_not_go_together_is_refused():
    for options, why in (
        ({"rank": 0}, "or 0 with beta"),
        ({"rank": 0, "beta": 1.0}, "or 0 with beta"),
        ({"rank": 0, "beta": "input", "vera": True}, "has no factors to freeze"),
        ({"rank": 0, "beta": "input", "frozen_factor": "lora_A"}, "has no factors to freeze"),
        ({"vera": True, "frozen_factor": "lora_A"}, "has no effect with vera=True"),
        ({"vera": True, "rank": 5000}, "supports ranks from 1 to 4096"),
        ({"beta": "rows"}, '"input", "output" or 1.0'),
    ):
        with pytest.raises(ScaffoldError, match=why):
            built(**options)


def test_dropout_has_no_effect_on_a_rank_of_zero():
    with pytest.warns(UnusedOptionWarning, match=r"dropout has no effect on 1\.weight: their rank is 0"):
        built(rank={"1": 0, "*": 2}, beta="input", dropout=0.5)


def test_a_layer_with_other_factors_than_the_seeds(tmp_path):
    model = trained(vera=True, rank=4)
    with torch.no_grad():
        model[0].lora_A += 1  # of which the others are no longer a part
        model[1].lora_B += 1
    path = lottapack.pack(model, tmp_path / "a.lotta.safetensors").path
    _, tensors = entries(path)
    assert {name for name in tensors if "lora" in name} == {
        "0.lora_A",
        "1.lora_A",
        "2.lora_A",
        "1.lora_B",
        "0.lora_B",
        "2.lora_B",
    }
    loaded = lottapack.load(path)
    assert torch.equal(output(loaded), output(model.eval()))
    assert not loaded[0].lora_A.requires_grad


@pytest.mark.parametrize(
    "compression",
    [{}, {"coding": {"adapters": "trellis8"}}, {"coding": {"adapters": "normal4-block64"}}, {"dtype": "float16"}],
    ids=str,
)
def test_an_owner_that_is_trained_keeps_its_bits(compression, tmp_path):
    """Others have parts of it, which a lossy form would change."""
    net = nn.Sequential(nn.Linear(64, 96, bias=False), nn.Linear(96, 64, bias=False))
    state = lottapack.scaffold(net, seed=3, rank=8, train=[]).state_dict()
    recipe = json.loads(bytes(state["lottapack_recipe"].tolist()))
    recipe["parameters"]["1.weight"]["slices"] = {"lora_B": "0.weight"}
    state["lottapack_recipe"] = torch.frombuffer(bytearray(canonical.dumps(recipe)), dtype=torch.uint8)
    state["0.lora_B"] = torch.randn(96, 8, generator=torch.Generator().manual_seed(1))
    state["1.lora_B"] = state["0.lora_B"][:64].clone()
    options = {"compression": lottapack.Compression(**compression)} if compression else {}
    path = lottapack.pack(state, tmp_path / "a.lotta.safetensors", **options).path
    parameters, _ = entries(path)
    assert parameters["1.weight"].adapter.lora_B.coding.id == "slice"
    assert lottapack.verify(path).ok
    loaded = lottapack.load(path)
    assert torch.equal(loaded[0].lora_B, state["0.lora_B"])
    assert torch.equal(loaded[1].lora_B, state["1.lora_B"])
