"""Exports open without warnings; without lottapack, opening a pack's folder is an error."""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import warnings

import pytest
import torch
from extent import crossed
from models import bits

import lottapack

transformers = pytest.importorskip("transformers")
S = ".lotta.safetensors"
SMALL = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
CODINGS = {
    "plain": lottapack.Compression(),
    "narrow": lottapack.Compression(dtype=torch.float16),
    "int8": lottapack.Compression(coding="int8-block64"),
    "normal4": lottapack.Compression(coding={"embeddings": "normal4-block64"}),
    "zlib": lottapack.Compression(coding="planes-zlib"),
}


def llama(tied):
    config = transformers.LlamaConfig(vocab_size=64, tie_word_embeddings=tied, **SMALL)
    return transformers.LlamaForCausalLM(config)


def t5(_):
    config = transformers.T5Config(vocab_size=64, d_model=64, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return transformers.T5ForConditionalGeneration(config)


def bert(tied):
    if tied:
        return transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=64, **SMALL))
    return transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=64, num_labels=3, **SMALL))


AUTO = {
    "LlamaForCausalLM": transformers.AutoModelForCausalLM,
    "T5ForConditionalGeneration": transformers.AutoModelForSeq2SeqLM,
    "BertForMaskedLM": transformers.AutoModelForMaskedLM,
    "BertForSequenceClassification": transformers.AutoModelForSequenceClassification,
}


@pytest.fixture
def silence():
    """Fail if a library warns or logs a warning."""
    said = []

    class Listener(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())

    libraries = [logging.getLogger(name) for name in ("transformers", "peft")]
    listener, level = Listener(), transformers.utils.logging.get_verbosity()
    for library in libraries:
        library.addHandler(listener)
    transformers.utils.logging.set_verbosity_warning()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # PEFT uses an old name of the library, with any model.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield
    transformers.utils.logging.set_verbosity(level)
    for library in libraries:
        library.removeHandler(listener)
    assert said == []


MODELS = [(llama, True), (llama, False), (t5, True), (bert, True), (bert, False)]
CODED = [(coding, dtype) for coding in CODINGS for dtype in (torch.float32, torch.bfloat16)]


@pytest.mark.parametrize(("coded", "model"), crossed(CODED, MODELS))
def test_folders_open_without_a_word(coded, model, silence, tmp_path):
    (coding, dtype), (make, tied) = coded, model
    if coding == "narrow" and dtype != torch.float32:
        pytest.skip("it is narrow already, which pack() says")
    model = lottapack.scaffold(make(tied).to(dtype), seed=1, rank=2)
    lottapack.pack(model, tmp_path / f"a{S}", compression=CODINGS[coding])
    for form in ("transformers", "transformers-pack"):
        differs = form == "transformers" and make is llama and dtype != torch.float32  # rotary frequencies
        with pytest.warns(lottapack.errors.LeftOutWarning) if differs else contextlib.nullcontext():
            lottapack.export(tmp_path / f"a{S}", tmp_path / form, format=form)
        for wanted in ("auto", torch.bfloat16):
            opened = AUTO[type(model).__name__].from_pretrained(tmp_path / form, dtype=wanted)
            due = lottapack.load(tmp_path / f"a{S}", merge=True, dtype=None if wanted == "auto" else wanted)
            pairs = zip(opened.state_dict().values(), due.state_dict().values(), strict=True)
            assert all(torch.equal(one, other) for one, other in pairs)
            pairs = zip(opened.buffers(), due.buffers(), strict=True)
            assert differs or all(bits(one) == bits(other) for one, other in pairs)
            head, table = opened.get_output_embeddings(), opened.get_input_embeddings()
            assert head is None or (head.weight is table.weight) == opened.config.tie_word_embeddings


@pytest.mark.parametrize("coding", ["plain", "int8", "zlib"])
@pytest.mark.parametrize(("make", "tied"), [(llama, True), (llama, False), (bert, False)])
def test_adapters_open_without_a_word_from_anywhere(make, tied, coding, silence, tmp_path, monkeypatch):
    peft = pytest.importorskip("peft")
    model = lottapack.scaffold(make(tied), seed=1, rank=2, beta=1.0, train="norms" if tied else None)
    form = lottapack.Compression(coding={"norms": "int8-block64"}) if tied and coding == "int8" else CODINGS[coding]
    lottapack.pack(model, tmp_path / f"a{S}", compression=form)
    due = lottapack.load(tmp_path / f"a{S}")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    lottapack.export(f"a{S}", "out", format="peft")
    monkeypatch.chdir(tmp_path / "elsewhere")
    tokens = torch.tensor([[1, 2, 3]])
    kind = peft.AutoPeftModelForSequenceClassification if make is bert else peft.AutoPeftModelForCausalLM
    options = {"num_labels": 3} if make is bert else {}
    for place in ("out", "moved"):
        if place == "moved":
            shutil.move(tmp_path / "out", tmp_path / "elsewhere" / "moved")
        opened = kind.from_pretrained(tmp_path / ("elsewhere/moved" if place == "moved" else "out"), **options)
        assert torch.allclose(opened.eval()(tokens).logits, due(tokens).logits, atol=1e-5)
        assert opened.peft_config["default"].task_type == ("SEQ_CLS" if make is bert else "CAUSAL_LM")


WITHOUT = """
import sys
from transformers import AutoModelForCausalLM, pipeline
for folder in sys.argv[1:]:
    for opens in (AutoModelForCausalLM.from_pretrained, lambda folder: pipeline("text-generation", folder)):
        try:
            opens(folder)
        except ValueError as fault:
            assert "import lottapack" in str(fault), fault
        else:
            sys.exit(f"it opened {folder}")
    assert "lottapack" not in sys.modules
    print("refused")
"""


def test_without_lottapack_transformers_refuses_and_says_what_to_import(tmp_path):
    """A folder with a pack, and the base of an adapter."""
    lottapack.pack(lottapack.scaffold(llama(False), seed=1, rank=2, beta=1.0), tmp_path / f"a{S}")
    folders = []
    for form, inner in (("transformers-pack", ""), ("peft", "base")):
        lottapack.export(tmp_path / f"a{S}", tmp_path / form, format=form)
        folders.append(tmp_path / form / inner)
        assert "import lottapack" in (folders[-1] / "README.md").read_text()
    line = [sys.executable, "-c", WITHOUT, *map(str, folders)]
    done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False)
    assert done.stdout == "refused\n" * 2, done.stderr


def test_a_readme_of_ones_own_stays(tmp_path):
    lottapack.pack(lottapack.scaffold(llama(False), seed=1, rank=2), tmp_path / f"a{S}")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("mine")
    lottapack.export(tmp_path / f"a{S}", tmp_path / "out", format="transformers-pack")
    assert (tmp_path / "out" / "README.md").read_text() == "mine"
