"""Adapters whose layers PEFT would read otherwise are not exported: its model would compute something else."""

import pytest
from sound import Model, linear, sequential
from torch import nn

import lottapack
from lottapack.errors import UnsupportedError


def twice():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), layer)


def tied():
    model = nn.Sequential(nn.Embedding(12, 4), nn.Linear(4, 12, bias=False))
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize(
    ("model", "targets", "words"),
    [
        (twice, ["0"], r"0\.weight has an adapter and is tied"),
        (tied, ["0"], r"0\.weight has an adapter and is tied"),
        (lambda: nn.Linear(4, 4), "*", "weight is a weight of the model itself"),
    ],
)
def test_a_layer_that_peft_would_adapt_alone_or_not_at_all(model, targets, words, tmp_path):
    built = lottapack.scaffold(model(), seed=1, rank=2, beta=1.0, targets=targets, train=[])
    lottapack.pack(built, tmp_path / "a")
    with pytest.raises(UnsupportedError, match=words):
        lottapack.export(tmp_path / "a", tmp_path / "out", format="peft")
    assert not (tmp_path / "out").exists()


CONV = {
    "in_channels": 4,
    "out_channels": 4,
    "kernel_size": [4],
    "stride": [1],
    "padding": [0],
    "dilation": [1],
    "groups": 1,
    "bias": False,
    "padding_mode": "zeros",
}
TOKENS = {"num_embeddings": 4, "embedding_dim": 4, "padding_idx": None}


@pytest.mark.parametrize(
    ("layer", "shape", "options"),
    [
        (linear(4, 4, bias=False), [4, 4], {"fan_in_fan_out": True}),
        (("Embedding", TOKENS), [4, 4], {"fan_in_fan_out": False}),
        (("Conv1d", CONV), [4, 4, 4], {"fan_in_fan_out": True}),
        (("Conv1d", CONV), [4, 4, 4], {"batch_dims": 1}),
    ],
)
def test_a_weight_that_peft_reads_as_another_matrix(layer, shape, options, tmp_path):
    """Such a pack is right, and its merged weights can be exported."""
    model = Model(sequential(layer), 7)
    model.adapted("0.weight", shape, distribution="sign1", rank=2, beta=False, **options)
    (tmp_path / "a").write_bytes(model.file())
    assert lottapack.numpy.load(tmp_path / "a")["0.weight"].tobytes() == model.plain["0.weight"]
    with pytest.raises(UnsupportedError, match=r"as another matrix than the adapter of 0\.weight does"):
        lottapack.export(tmp_path / "a", tmp_path / "out", format="peft")
    assert not (tmp_path / "out").exists()
