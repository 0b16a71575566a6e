"""Resizing and replacing embeddings after scaffold(): allowed if trained in full, refused if generated."""

import copy

import pytest
import torch
from torch import nn
from training_models import BUILD, fit, logits

import lottapack
from lottapack.errors import CheckpointError, ScaffoldError

pytest.importorskip("transformers")
PACK = "model.lotta.safetensors"
ADAPTED = {"targets": ["*.embed_tokens", "*.q_proj"], "train": ["norms"]}
SEEDED = {"targets": ["*.q_proj"], "train": ["norms"]}
VIRTUAL = {**SEEDED, "distribution": "sign1", "backbone": "virtual"}


def llama(*, tied=False, **options):
    return lottapack.scaffold(BUILD["llama"](tie_word_embeddings=tied), seed=3, rank=2, **options)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("change", [6])
def test_a_trained_vocabulary_is_resized_trained_saved_and_packed(tied, change, tmp_path):
    model = llama(tied=tied)
    before = logits(model, "llama")
    rows = model.config.vocab_size + change
    model.resize_token_embeddings(rows)
    common = min(rows, before.shape[-1])
    assert torch.equal(logits(model, "llama")[..., :common], before[..., :common])
    fit(model, "llama")
    model.save_pretrained(tmp_path / "saved")
    expected = lottapack.pack(model, tmp_path / PACK, files=False)
    for merge in (False, True):
        loaded = lottapack.load(tmp_path / PACK, merge=merge)
        assert loaded.config.vocab_size == rows
        assert torch.allclose(logits(loaded, "llama"), logits(model, "llama"), atol=1e-5)
    assert lottapack.pack(tmp_path / "saved", tmp_path / PACK, files=False).sha256 == expected.sha256


def test_a_configuration_without_its_tensors_is_refused(tmp_path):
    model = llama()
    model.config.vocab_size += 6
    with pytest.raises(CheckpointError):
        lottapack.pack(model, tmp_path / PACK)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("options", [ADAPTED, SEEDED, VIRTUAL], ids=["adapted", "seeded", "virtual"])
@pytest.mark.parametrize("copied", [lambda model: model, copy.deepcopy], ids=["itself", "copy"])
def test_a_generated_embedding_is_refused_before_anything_changes(tied, options, copied, tmp_path):
    model = copied(llama(tied=tied, **options))
    before, rows = logits(model, "llama"), model.config.vocab_size
    new = nn.Embedding(rows, model.config.hidden_size)
    calls = [
        lambda: model.resize_token_embeddings(rows + 6),
        lambda: model.resize_token_embeddings(rows, pad_to_multiple_of=rows - 1),
        lambda: model.model.resize_token_embeddings(rows + 6),
        lambda: model.set_input_embeddings(new),
    ]
    for call in calls:
        with pytest.raises(ScaffoldError, match=r"embed_tokens is generated"):
            call()
    model.resize_token_embeddings(rows)  # changes nothing; scripts often call it
    model.set_input_embeddings(model.get_input_embeddings())
    assert torch.equal(logits(model, "llama"), before)
    assert model.config.vocab_size == rows
    lottapack.pack(model, tmp_path / PACK)


def test_position_embeddings(tmp_path):
    """DistilBERT is the class that resizes them."""
    model = lottapack.scaffold(BUILD["distilbert"](), seed=3, rank=2)
    rows = model.config.max_position_embeddings
    model.resize_position_embeddings(rows + 8)
    lottapack.pack(model, tmp_path / PACK)
    assert torch.equal(logits(lottapack.load(tmp_path / PACK), "distilbert"), logits(model.eval(), "distilbert"))
    options = {"targets": ["*.position_embeddings", "*.q_lin"]}
    model = lottapack.scaffold(BUILD["distilbert"](), seed=3, rank=2, **options)
    with pytest.raises(ScaffoldError, match="position_embeddings is generated"):
        model.resize_position_embeddings(rows + 8)
    assert model.config.max_position_embeddings == rows
    lottapack.pack(model, tmp_path / PACK)
