"""Patterns of a PEFT folder: the answers of re, and an end for what has none."""

import re

import pytest

from lottapack.errors import CheckpointError
from lottapack.peft import patterns
from lottapack.peft.config import AdapterConfig

NAMES = ["q_proj", "model.layers.0.self_attn.q_proj", "model.layers.11.mlp.up_proj", "a" * 60 + "!"]
PATTERNS = [
    r".*\.layers\.\d+\.self_attn\.(q|v)_proj", r"q_proj|up_proj", r"(model\.)+layers\.(\d+\.)*self_attn\.q_proj",
    r"(?:[a-z_]+\.)*layers\.\d{1,2}\.mlp\.up_proj", r"(?i).*Q_PROJ", r"(a{1,3}){20}!", "",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_answer_is_that_of_re(pattern):
    assert [patterns.fullmatch(pattern, name) for name in NAMES] == [
        re.fullmatch(pattern, name) is not None for name in NAMES
    ]


@pytest.mark.parametrize(("pattern", "name"), [
    ("(a*)*x", NAMES[-1]), ("(a|aa)+x", NAMES[-1]), ("(.*)*x", NAMES[-1]), (".*" * 30 + "x", NAMES[-1]),
    ("a?" * 40 + "a" * 40, "a" * 40 + "b"), (".*.*.*.*x", "a" * 5_000),
])  # fmt: skip
def test_what_takes_time_without_end_is_refused(pattern, name, monkeypatch):
    monkeypatch.setattr(patterns, "SECONDS", 0.5)
    config = AdapterConfig(
        rank=4, alpha=8.0, scaling="lora", magnitude=False, targets=pattern, excluded=(), some_layers=False, saved=(),
        base="", projection_key=None, ranks={pattern: 2}, alphas={pattern: 2.0},
    )  # fmt: skip
    for ask in (config.rank_of, config.alpha_of, lambda name: config.targeted([name])):
        with pytest.raises(CheckpointError, match="takes more than") as caught:
            ask(name)
        assert "adapter_config.json" in caught.value.hint
