"""The log says what is kept in full if that is most of a model."""

import pytest
from torch import nn
from transformers import MixtralConfig, MixtralForCausalLM

import lottapack

SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
EXPERTS = {"vocab_size": 64, "num_local_experts": 3, "head_dim": 16, "intermediate_size": 48}


def moe():
    return MixtralForCausalLM(MixtralConfig(**SMALL, **EXPERTS))


def lines(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "lottapack"]


def test_embeddings_are_named(caplog):
    model = nn.Sequential(nn.Embedding(500, 16), nn.Linear(16, 16), nn.Linear(16, 4))
    lottapack.scaffold(model, seed=1)
    assert lines(caplog) == ["scaffold() keeps 97% of the model in full: embeddings 96%, heads 1%"]


def test_weights_are_named_with_a_cause(caplog):
    lottapack.scaffold(moe(), seed=1, rank=2, train=["gate_up_proj", "down_proj"])
    (line,) = lines(caplog)
    assert "other weights 65%" in line
    assert "mlp.experts.gate_up_proj (MixtralExperts) is named in train, shares its weight, or is narrower" in line


@pytest.mark.parametrize("build", [moe, lambda: nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 4))])
def test_nothing_is_said_of_a_small_part(build, caplog):
    lottapack.scaffold(build(), seed=1, rank=2)
    assert lines(caplog) == []
