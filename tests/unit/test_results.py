"""Scores that a pack carries, and the card that shows them."""

import json
import math

import pytest
import yaml
from torch import nn

import lottapack
from lottapack.errors import CheckpointError
from lottapack.format import canonical
from lottapack.format.results import in_json, read_results
from lottapack.pushing import front_matter
from lottapack.pushing.card import card
from lottapack.registry.records import PushOptions
from lottapack.strict_json.text import JsonText

SCORE = {
    "task": "image-classification",
    "dataset": "mnist",
    "metric": "accuracy",
    "score": 95.33,
    "deviation": 0.33,
    "seeds": 5,
    "rank": 8,
    "full": 96.24,
    "chance": 10.0,
}


@pytest.fixture(scope="module")
def model():
    return lottapack.scaffold(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)), seed=42, rank=2)


@pytest.fixture(scope="module")
def scored(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("scored") / "m.lotta.safetensors"
    lottapack.pack(model, path, results=[SCORE, lottapack.Result(task="t", dataset="d", metric="m", score=1)])
    return path


def test_a_pack_carries_scores_and_the_same_weights(scored, model, tmp_path):
    lottapack.pack(model, tmp_path / "plain")
    assert lottapack.inspect(scored).results == (
        lottapack.Result(**SCORE),
        lottapack.Result(task="t", dataset="d", metric="m", score=1),
    )
    assert lottapack.inspect(tmp_path / "plain").results == ()
    with lottapack.open_pack(scored) as pack, lottapack.open_pack(tmp_path / "plain") as plain:
        assert pack.descriptor.parameters == plain.descriptor.parameters
        assert b'"x-results"' in pack.descriptor.to_bytes()
        assert b"x-results" not in plain.descriptor.to_bytes()
    assert {check.status for check in lottapack.verify(scored).checks} == {"ok"}


def test_the_card_has_a_table_and_a_model_index(scored):
    made = card(scored, "me/digits", "0" * 64, PushOptions())
    block, body = front_matter.split(made)
    index = yaml.safe_load(block)["model-index"]
    assert index[0]["name"] == "digits"
    assert index[0]["results"][0] == {
        "task": {"type": "image-classification"},
        "dataset": {"name": "mnist", "type": "mnist"},
        "metrics": [{"type": "accuracy", "value": 95.33, "name": "accuracy"}],
    }
    assert "| accuracy, mnist, rank 8 | 95.33 ± 0.33 (5 seeds) |" in body
    assert "| accuracy, mnist, full training | 96.24 |" in body
    assert card(scored, "me/digits", "0" * 64, PushOptions(), made) == made


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({**SCORE, "score": "high"}, r"results\[0\]: Expected `float`"),
        ({**SCORE, "score": math.nan}, r"results\[0\]: a number is not finite"),
        ({**SCORE, "colour": "red"}, r"results\[0\]: the field colour is unknown"),
        ({"task": "t"}, r"results\[0\]: .*dataset"),
        ({**SCORE, "dataset": "d" * 40_000}, "32,768 bytes"),
    ],
)
def test_wrong_scores_are_refused(model, tmp_path, wrong, said):
    with pytest.raises(CheckpointError, match=said):
        lottapack.pack(model, tmp_path / "never", results=[wrong])
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("value", [3, "text", [3], [{"task": "t"}], [{**SCORE, "score": None}]])
def test_a_strangers_field_of_another_form_is_ignored(value):
    assert read_results(JsonText(canonical.dumps(value))) == ()


def test_what_is_none_takes_no_space():
    assert in_json([lottapack.Result(**SCORE)]) == (SCORE,)
    assert json.dumps(in_json([lottapack.Result(task="t", dataset="d", metric="m", score=1.5)])[0]).count(":") == 4
