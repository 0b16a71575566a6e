"""An option without effect is an error or a warning."""

import pytest
import torch
from models import cnn, mlp, trained

import lottapack
from lottapack.errors import CheckpointError, ScaffoldError, UnusedOptionWarning

PACK = "pack.lotta.safetensors"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rank": {"*": 2, "0": 4}}, r"rank: '0' has no effect, because '\*' comes before it"),
        ({"rank": {"0": 4, "[02]": 3, "2": 1, "*": 2}}, r"'2' has no effect, because '\[02\]' comes before"),
        ({"rank": {"4": 1, "*": 2}}, "rank: '4' has no effect, because it does not match a layer with an adapter"),
        ({"distribution": {"4": "sign1", "*": "normal16"}}, "distribution: '4' .* does not match a generated layer"),
        ({"distribution": {"*": "normal16", "0": "sign1"}}, r"distribution: '0' .* because '\*' comes before"),
        ({"backbone": {"*": "blocks", "0": "blocks"}}, "backbone: '0' has no effect"),
        ({"backbone": {"4": "blocks"}}, "backbone: no generated layer is called '4'"),
    ],
)
def test_patterns_that_decide_nothing(options, words):
    with pytest.raises(ScaffoldError, match=words):
        lottapack.scaffold(mlp(), seed=1, **{"rank": 2, **options})


def test_train_names_what_can_be_trained():
    with pytest.raises(ScaffoldError, match=r"train='running_mean': 1\.running_mean cannot be trained"):
        lottapack.scaffold(cnn(), seed=1, rank=2, train=["running_mean"])
    with pytest.warns(
        UnusedOptionWarning, match="no norms and no embeddings, so only the adapters are trained"
    ) as warned:
        lottapack.scaffold(mlp(), seed=1, rank=2, train=["norms", "embeddings"])
    assert warned[0].filename == __file__
    for train in (["norms", "biases"], ["norms", "0.bias"], ()):
        lottapack.scaffold(mlp(), seed=1, rank=2, train=train)


@pytest.mark.parametrize(
    "coding", ["int8-block64", {"norms": "int8-block64"}, {"*": "planes-zlib", "buffers": "planes-zlib"}]
)
def test_a_coding_of_an_absent_group(coding, tmp_path, run):
    model = trained("mlp")
    with pytest.raises(CheckpointError, match=r"does not store (embeddings|norms|buffers)") as caught:
        lottapack.pack(model, tmp_path / PACK, compression=lottapack.Compression(coding=coding))
    assert "It stores heads, biases, adapters." in caught.value.hint
    assert not (tmp_path / PACK).exists()
    torch.save(model.state_dict(), tmp_path / "m.pt")
    refused = run("pack", tmp_path / "m.pt", "--coding", "norms=int8-block64", "--max-error", "0.1")
    assert refused.code == 2 and "does not store norms" in refused.err


def test_what_changes_nothing_is_said(tmp_path, run):
    model = trained("mlp")
    with pytest.warns(UnusedOptionWarning, match="coding biases=int8-block64 had no effect") as warned:
        lottapack.pack(model, tmp_path / PACK, compression=lottapack.Compression(coding={"biases": "int8-block64"}))
    assert warned[0].filename == __file__
    torch.save(model.state_dict(), tmp_path / "m.pt")
    said = run("pack", tmp_path / "m.pt", "--coding", "biases=int8-block64")
    assert said.code == 0 and "had no effect" in said.err
    half = lottapack.scaffold(mlp().half(), seed=1, rank=2)
    with pytest.warns(UnusedOptionWarning, match="dtype=bfloat16 had no effect"):
        lottapack.pack(half, tmp_path / PACK, compression=lottapack.Compression(dtype="bfloat16"))
