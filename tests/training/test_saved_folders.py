"""transformers refuses to load what save_pretrained writes of a scaffolded model, and says why."""

import copy
import json
import pickle
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from models import all_bits
from safetensors.torch import load_file
from training_models import BUILD, fit

import lottapack

transformers = pytest.importorskip("transformers")
PACK = "model.lotta.safetensors"


def trained(name):
    return fit(lottapack.scaffold(BUILD[name](), seed=3, rank=2), name)


def refused(folder, cls=transformers.AutoModel):
    with pytest.raises((ValueError, OSError), match=r"Pack this folder with 'lottapack pack FOLDER.*lottapack\.load"):
        cls.from_pretrained(folder)


@pytest.mark.parametrize("name", BUILD)
def test_from_pretrained_refuses_the_folder_of_a_scaffolded_model(name, tmp_path):
    model = trained(name)
    model.save_pretrained(tmp_path / "saved")
    refused(tmp_path / "saved")
    refused(tmp_path / "saved", type(model))
    expected = lottapack.pack(model, tmp_path / PACK, files=False)
    assert lottapack.pack(tmp_path / "saved", tmp_path / PACK, files=False).sha256 == expected.sha256


def test_a_process_without_lottapack_is_told_the_same(tmp_path):
    trained("llama").save_pretrained(tmp_path)
    code = f"from transformers import AutoModelForCausalLM; AutoModelForCausalLM.from_pretrained({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "lottapack.load()" in done.stderr


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_saves_its_own_values(copied, tmp_path):
    model = trained("llama")
    other = copied(model)
    with torch.no_grad():
        other.model.norm.weight.add_(1)
    other.save_pretrained(tmp_path)
    assert torch.equal(load_file(tmp_path / "model.safetensors")["model.norm.weight"], other.model.norm.weight)
    refused(tmp_path)


def test_a_part_and_a_loaded_model_are_marked_too(tmp_path):
    model = trained("llama")
    model.model.save_pretrained(tmp_path / "part")
    refused(tmp_path / "part")
    lottapack.pack(model, tmp_path / PACK)
    lottapack.load(tmp_path / PACK).save_pretrained(tmp_path / "loaded", max_shard_size="4KB")
    refused(tmp_path / "loaded")


def test_plain_weights_are_not_marked(tmp_path):
    """A merged model; its state_dict, saved by the scaffolded one; and a model built from a marked configuration."""
    model = trained("llama")
    lottapack.pack(model, tmp_path / PACK)
    merged = lottapack.load(tmp_path / PACK, merge=True)
    merged.save_pretrained(tmp_path / "merged")
    model.save_pretrained(tmp_path / "state", state_dict=merged.state_dict())
    for folder in ("merged", "state"):
        again = type(model).from_pretrained(tmp_path / folder)
        assert all_bits(again) == all_bits(merged)
    model.save_pretrained(tmp_path / "marked")
    built = type(model)(transformers.AutoConfig.from_pretrained(tmp_path / "marked"))
    built.save_pretrained(tmp_path / "built")
    assert all_bits(type(model).from_pretrained(tmp_path / "built")) == all_bits(built)


def test_the_mark_is_there_before_transformers_uploads(tmp_path, monkeypatch):
    """With push_to_hub=True the upload is a part of save_pretrained."""
    model, sent = trained("llama"), []

    def upload(self, folder, *_, **__):
        sent.append(json.loads((tmp_path / "config.json").read_text()))

    hub = {"create_repo": lambda *_, **__: SimpleNamespace(repo_id="me/model")}
    monkeypatch.setattr("transformers.modeling_utils.hf_api", lambda: SimpleNamespace(**hub))
    card = SimpleNamespace(save=lambda _: None)
    monkeypatch.setattr("transformers.modeling_utils.create_and_tag_model_card", lambda *_, **__: card)
    monkeypatch.setattr(type(model), "_upload_modified_files", upload)
    model.save_pretrained(tmp_path, push_to_hub=True, repo_id="me/model")
    assert len(sent) == 1
    assert "lottapack.load()" in sent[0]["transformers_weights"]
    assert "_upload_modified_files" not in vars(model)
