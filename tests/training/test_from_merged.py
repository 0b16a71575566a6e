"""Packs recovered from merged weights and the seed."""

import json

import pytest
import torch
from models import all_bits, bits
from safetensors.torch import load_file, save_file
from torch import nn
from training_models import BUILD, fit, logits

import lottapack
from lottapack import rng
from lottapack.recover.low_rank import recover

PACK = "merged.lotta.safetensors"
WIDE = {
    "llama": {"hidden_size": 48, "intermediate_size": 64},
    "gpt2": {"n_embd": 48},
    "vit": {"hidden_size": 48, "intermediate_size": 64},
    "distilbert": {"dim": 48, "hidden_dim": 64},
}


def merged_folder(name, folder, **options):
    """Return a trained model's pack and the folder of its merged weights."""
    model = lottapack.scaffold(BUILD[name](**WIDE[name]), **{"seed": 7, "rank": 2, **options})
    lottapack.pack(fit(model, name), folder / "original")
    lottapack.export(folder / "original", folder / "merged", format="transformers")
    return folder / "merged"


def adapters(path):
    return {
        entry.name: (entry.rank, entry.beta) for entry in lottapack.inspect(path).parameters if entry.role == "adapted"
    }


@pytest.mark.parametrize("name", BUILD)
def test_rank_and_beta_are_found(name, run, tmp_path):
    merged = merged_folder(name, tmp_path, rank={"*1*": 3, "*": 2})
    line = ("pack", merged, "--from-merged", "--seed", 7, "--max-rank", 4, "-o", tmp_path / PACK)
    result = run(*line)
    assert (result.code, result.err) == (0, "")
    assert "largest relative error" in result.out
    expected, found = adapters(tmp_path / "original"), adapters(tmp_path / PACK)
    assert expected.keys() == found.keys()
    assert {key: rank for key, (rank, _) in found.items()} == {key: rank for key, (rank, _) in expected.items()}
    assert all(abs(found[key][1] - beta) < 1e-6 for key, (_, beta) in expected.items())
    assert abs((tmp_path / PACK).stat().st_size - (tmp_path / "original").stat().st_size) < 64
    assert run("verify", tmp_path / PACK).code == 0

    layers = {layer["name"]: layer for layer in json.loads(run(*line, "--json").out)["layers"]}
    given = lottapack.load(tmp_path / "original", merge=True).state_dict()
    rebuilt = lottapack.load(tmp_path / PACK, merge=True)
    for key, value in rebuilt.state_dict().items():
        if key in found:
            error = float((value.double() - given[key].double()).norm() / given[key].double().norm())
            assert layers[key]["error"] == pytest.approx(error, rel=1e-6)
            assert error <= 2**-20
        else:
            assert bits(value) == bits(given[key])
            assert key not in layers or layers[key]["role"] == "stored"
    original = lottapack.load(tmp_path / "original", merge=True)
    assert torch.allclose(logits(rebuilt, name), logits(original, name), rtol=1e-4, atol=1e-5)


def test_what_has_no_low_rank_difference_is_stored_and_what_was_frozen_is_seeded(run, tmp_path):
    merged = merged_folder("llama", tmp_path, targets=["q_proj"], train=["heads", "norms", "embeddings"])
    tensors = load_file(merged / "model.safetensors")
    changed = "model.layers.1.mlp.up_proj.weight"
    tensors[changed] = tensors[changed] + 0.1 * lottapack.draw("noise", tensors[changed].shape, seed=1)
    save_file(tensors, merged / "model.safetensors", metadata={"format": "pt"})
    line = ("pack", merged, "--from-merged", "--seed", 7, "--max-rank", 4, "-o", tmp_path / PACK, "--json")
    layers = {layer["name"]: layer for layer in json.loads(run(*line).out)["layers"]}
    assert layers[changed]["role"] == "stored"
    assert layers[changed]["size"] == 64 * 48 * 4
    assert layers["model.layers.0.mlp.up_proj.weight"]["role"] == "seeded"
    assert layers["model.layers.0.self_attn.q_proj.weight"]["role"] == "adapted"
    loaded = lottapack.load(tmp_path / PACK, merge=True).state_dict()
    assert bits(loaded[changed]) == bits(tensors[changed])
    assert {entry.name: entry.trained for entry in lottapack.inspect(tmp_path / PACK).parameters}[changed]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_that_were_rounded(dtype, run, tmp_path):
    merged_folder("gpt2", tmp_path)
    line = ("export", tmp_path / "original", "-o", tmp_path / "half", "--format", "transformers", "--dtype", dtype)
    assert run(*line).code == 0
    line = ("pack", tmp_path / "half", "--from-merged", "--seed", 7, "--max-rank", 4, "-o", tmp_path / PACK, "--json")
    layers = [layer for layer in json.loads(run(*line).out)["layers"] if layer["role"] == "adapted"]
    expected = adapters(tmp_path / "original")
    assert {layer["name"] for layer in layers} == expected.keys()
    assert all(abs(layer["beta"] - expected[layer["name"]][1]) < 0.01 for layer in layers)
    assert all(layer["rank"] <= 2 for layer in layers)


def test_another_scale_goes_into_beta_and_the_distribution_is_an_option(run, tmp_path):
    merged = merged_folder("llama", tmp_path, distribution="sign1", scale=0.5)
    line = ("pack", merged, "--from-merged", "--seed", 7, "--max-rank", 4, "-o", tmp_path / PACK)
    assert run(*line, "--distribution", "sign1").code == 0
    expected, found = adapters(tmp_path / "original"), adapters(tmp_path / PACK)
    query = "model.layers.0.self_attn.q_proj.weight"
    assert found[query][1] == pytest.approx(0.5 * 48**0.5 * expected[query][1], rel=1e-5)
    assert run(*line).code == 2
    assert "normal99" in run(*line, "--distribution", "normal99").err


def test_a_larger_tolerance_finds_a_smaller_rank(tmp_path):
    merged = merged_folder("vit", tmp_path)
    ranks = []
    for tolerance in (1e-6, 0.02, 0.2):
        result = lottapack.pack(
            lottapack.recover.merged(merged, seed=7, max_rank=4, tolerance=tolerance), tmp_path / PACK
        )
        assert all(layer.error <= tolerance for layer in result.layers if layer.error is not None)
        ranks.append(sum(layer.rank or 0 for layer in result.layers))
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] > ranks[-1]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("--seed", 8, "--max-rank", 4), ["nothing matches", "seed 8", "rank 4 or less", "Check seed"]),
        (("--seed", 7, "--max-rank", 1), ["nothing matches", "rank 1 or less", "larger max_rank"]),
    ],
)
def test_a_wrong_seed_or_rank_matches_nothing(line, words, run, tmp_path):
    merged = merged_folder("distilbert", tmp_path)
    result = run("pack", merged, "--from-merged", *line, "-o", tmp_path / PACK)
    assert (result.code, result.out) == (2, "")
    assert [word for word in words if word not in result.err] == []
    assert not (tmp_path / PACK).exists()
    lacking = load_file(merged / "model.safetensors")
    del lacking["classifier.bias"]
    save_file(lacking, merged / "model.safetensors")
    assert "lacks 1 tensors" in run("pack", merged, "--from-merged", *line, "-o", tmp_path / PACK).err


@pytest.mark.parametrize("seed", [7, 8])
def test_a_layer_that_is_of_low_rank_by_itself_matches_no_seed(seed, tmp_path):
    """A beta near 0 would match every backbone."""
    model = nn.Sequential(nn.Linear(64, 48), nn.Linear(48, 40))
    with torch.no_grad():
        for layer in model:
            layer.weight.copy_(torch.randn(layer.out_features, 2) @ torch.randn(2, layer.in_features))
    options = {"seed": seed, "max_rank": 4, "architecture": model}
    with pytest.raises(lottapack.errors.CheckpointError, match=rf"nothing matches: .* seed {seed}'s backbone"):
        lottapack.pack(lottapack.recover.merged(model, **options), tmp_path / "a")
    model[0] = lottapack.init_backbone_(nn.Sequential(nn.Linear(64, 48)), seed=7)[0]
    if seed == 7:  # stored beside a layer that matches
        found = lottapack.pack(lottapack.recover.merged(model, **options), tmp_path / "a")
        assert [(layer.name, layer.role) for layer in found.layers] == [("0.weight", "seeded"), ("1.weight", "stored")]
        assert all_bits(lottapack.load(tmp_path / "a")[1]) == all_bits(model[1])


def test_wrong_arguments(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4))
    for options in (
        {"max_rank": 0},
        {"max_rank": 2.5},
        {"max_rank": 1, "tolerance": 0.0},
        {"max_rank": 1, "tolerance": float("nan")},
    ):
        with pytest.raises(lottapack.errors.CheckpointError, match="both must be above 0"):
            lottapack.pack(lottapack.recover.merged(model, seed=1, architecture=model, **options), tmp_path / "a")
    with pytest.raises(lottapack.errors.ScaffoldError, match="must be an integer"):
        lottapack.pack(lottapack.recover.merged(model, seed=-1, max_rank=1, architecture=model), tmp_path / "a")


def drawn(name, shape):
    return lottapack.draw(name, shape, seed=3, scale=0.05)


@pytest.mark.parametrize(
    ("shape", "fan_in_fan_out"),
    [((700, 600), False), ((700, 600), True), ((520, 2000), False), ((40, 3, 5, 5), False)],
)
def test_recovery_of_single_weights(shape, fan_in_fan_out):
    """A model large enough for the random projection, with a convolution."""
    d_out, d_in = (shape[1], shape[0]) if fan_in_fan_out else (shape[0], torch.Size(shape[1:]).numel())
    weight, a, b = drawn("w", shape), drawn("a", (5, d_in)), drawn("b", (d_out, 5))
    low = (b @ a).t() if fan_in_fan_out else (b @ a).reshape(shape)
    fit_ = recover(0.9 * weight + low, weight, max_rank=9, tolerance=2**-20, fan_in_fan_out=fan_in_fan_out)
    assert fit_.rank == 5
    assert fit_.beta == pytest.approx(0.9, abs=1e-6)
    assert fit_.error < 2**-20
    assert recover(low + drawn("z", shape), weight, max_rank=9, tolerance=2**-20, fan_in_fan_out=fan_in_fan_out) is None


def test_recovery_gives_up_where_nothing_is_gained():
    weight = drawn("w", (6, 6))
    assert recover(weight + drawn("v", (6, 6)), weight, max_rank=6, tolerance=0.1, fan_in_fan_out=False) is None
    zero = torch.zeros(20, 20)
    for given, backbone in ((zero, drawn("w", (20, 20))), (drawn("w", (20, 20)), zero)):
        assert recover(given, backbone, max_rank=2, tolerance=0.1, fan_in_fan_out=False) is None
    state = torch.get_rng_state()
    recover(drawn("v", (600, 600)), drawn("w", (600, 600)), max_rank=2, tolerance=0.1, fan_in_fan_out=False)
    assert torch.equal(torch.get_rng_state(), state)


def test_ties_are_followed(tmp_path):
    model = lottapack.scaffold(BUILD["gpt2"](**WIDE["gpt2"]), seed=7, rank=2)
    lottapack.pack(fit(model, "gpt2"), tmp_path / "original")
    state = lottapack.load(tmp_path / "original", merge=True).state_dict()
    assert "lm_head.weight" in state
    lottapack.pack(
        lottapack.recover.merged(state, seed=7, max_rank=3, architecture=BUILD["gpt2"](**WIDE["gpt2"])), tmp_path / PACK
    )
    loaded = lottapack.load(tmp_path / PACK, merge=True)
    assert loaded.lm_head.weight is loaded.transformer.wte.weight
    assert lottapack.inspect(tmp_path / PACK).rng == rng.ALGORITHM
    assert all_bits(loaded)["lm_head.weight"] == bits(state["lm_head.weight"])


def test_an_embedding_of_which_few_rows_were_trained_has_a_low_rank_difference(tmp_path):
    """Weights trained in full start from the seed too; five positions were trained, the rest decayed."""
    merged = merged_folder("gpt2", tmp_path)
    layers = {
        layer.name: layer
        for layer in lottapack.pack(lottapack.recover.merged(merged, seed=7, max_rank=6), tmp_path / PACK).layers
    }
    assert layers["transformer.wpe.weight"].rank == 5
    assert layers["transformer.wpe.weight"].beta == pytest.approx((1 - 0.05 * 0.01) ** 3, abs=1e-6)


def tied(*layers):
    net = nn.Sequential(*layers, nn.Linear(32, 4))
    net[2].weight = net[0].weight
    return net


TIED = {
    "linear": lambda: tied(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32)),
    "head": lambda: tied(nn.Embedding(40, 32), nn.Linear(32, 32), nn.Linear(32, 40, bias=False)),
    "one layer": lambda: nn.Sequential(*[nn.Linear(32, 32)] * 2, nn.Linear(32, 4)),
}


@pytest.mark.parametrize("way", ["seeded", "adapted", "stored"])
@pytest.mark.parametrize("name", TIED)
def test_ties_that_a_constructor_does_not_make_are_kept(name, way, tmp_path):
    """A model and its state_dict tell them, since tied tensors are one in memory."""
    net = TIED[name]()
    net.load_state_dict(lottapack.init_backbone_(TIED[name](), seed=7).state_dict(), strict=False)
    with torch.no_grad():
        if way == "adapted":
            net[0].weight += torch.outer(torch.randn(len(net[0].weight)), torch.randn(32))
        if way == "stored":
            net[0].weight.normal_()
    names = [key for key, _ in net.named_parameters(remove_duplicate=False)]
    for given, options in ((net, {}), (net.state_dict(), {"architecture": TIED[name]()})):
        found = lottapack.recover.merged(given, seed=7, max_rank=2, **options)
        lottapack.pack(found, tmp_path / PACK, check=lottapack.load)  # a layer without the adapter would be refused
        loaded = lottapack.load(tmp_path / PACK, merge=True)
        alike = [len({id(p) for _, p in one.named_parameters(remove_duplicate=False)}) for one in (net, loaded)]
        assert alike[0] == alike[1] < len(names)
        assert torch.allclose(loaded[0].weight, net[0].weight, rtol=1e-4, atol=1e-5)
        roles = {layer.name: layer.role for layer in found.layers}
        sees = way != "adapted" or name != "linear"
        assert roles["0.weight"] == (way if sees else "stored")
