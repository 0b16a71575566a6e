"""The paper's Llamas, and its Table 10 beside packs."""

import dataclasses

import pytest
import torch

import lottapack
from lottapack.reports import llamas
from lottapack.reports.llamas import LLAMAS, Llama, trained_state
from lottapack.reports.size_table import FORMS, compare, measure

pytest.importorskip("transformers")

TINY = Llama(1, 32, 2, 48, 8, 3, 4)


def scaffolded(adapted_embeddings=False):
    """A model of the shape TINY, as a user would make it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=48,
        vocab_size=llamas.VOCABULARY,
        tie_word_embeddings=True,
    )
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", *(["embed_tokens"] if adapted_embeddings else [])]
    return lottapack.scaffold(LlamaForCausalLM(config), seed=42, rank=8, alpha=16, targets=targets)


@pytest.mark.parametrize("adapted", [False, True])
def test_a_state_without_a_backbone_is_that_of_scaffold(adapted):
    state, due = trained_state(TINY, adapted_embeddings=adapted), scaffolded(adapted).state_dict()
    if not adapted:
        due.pop("lm_head.weight")
    assert state.keys() == due.keys()
    assert all(state[name].shape == tensor.shape for name, tensor in due.items())
    assert torch.equal(state["lottapack_recipe"], due["lottapack_recipe"])


def test_measured_sizes_are_those_of_files(tmp_path):
    seen = []
    rows = measure(["tiny"], shapes={"tiny": TINY}, progress=lambda *at: seen.append(at))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [row.form for row in rows] == list(FORMS)
    for row in rows:
        path = tmp_path / "a.lotta.safetensors"
        coding = FORMS[row.form]
        assert (
            lottapack.pack(
                trained_state(TINY), path, compression=lottapack.Compression(dtype="float16", coding=coding)
            ).size
            == row.size
        )
        assert lottapack.load(path).config.hidden_size == 32
        assert row.mib == row.size / 2**20
        assert row.of_paper == row.mib / 4
        assert row.bits_per_weight == 8 * row.size / row.numel
    fp16, eight, four = (row.size for row in rows)
    assert rows[1].of_fp16 == eight / fp16 < 0.55
    assert rows[2].of_fp16 == four / fp16 < 0.32


def test_the_smallest_llama_meets_the_paper():
    fp16, eight, four = measure(["3M"])
    assert fp16.mib <= LLAMAS["3M"].lottalora
    assert eight.of_fp16 <= 0.55
    assert four.of_fp16 <= 0.32


def test_packs_are_compared_from_their_headers(tmp_path):
    first = lottapack.pack(
        trained_state(TINY), tmp_path / "a.lotta.safetensors", compression=lottapack.Compression(coding="int8-block64")
    ).path
    state = trained_state(TINY, adapted_embeddings=True)
    second = lottapack.pack(state, tmp_path / "b.lotta.safetensors").path
    rows = compare([first, second])
    assert [row.form for row in rows] == ["int8-block64 embeddings", "adapted embeddings"]
    assert [row.scale for row in rows] == [None, None]
    assert rows[1].size < rows[0].size
    assert [row.size for row in rows] == [first.stat().st_size, second.stat().st_size]


def test_scales_are_known_by_their_shapes():
    for name, shape in LLAMAS.items():
        config = {"num_hidden_layers": shape.layers, "hidden_size": shape.width, "num_attention_heads": shape.heads}
        config |= {"intermediate_size": shape.mlp, "vocab_size": 32000, "tie_word_embeddings": True}
        assert llamas.scale_of(config | {"rope_theta": 1.0}) == name
        assert llamas.scale_of(config | {"hidden_size": 65}) is None
        assert llamas.scale_of({}) is None
    assert len({dataclasses.astuple(shape) for shape in LLAMAS.values()}) == 5


def test_an_unknown_scale_is_refused():
    with pytest.raises(lottapack.errors.UnsupportedError, match="unknown Llama '7B'"):
        measure(["7B"])
