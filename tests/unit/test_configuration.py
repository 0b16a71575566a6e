"""pack() uses the current configuration, from a live model or from config.json beside a checkpoint."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from models import bits, cnn, gpt2, mlp, tied_llama, vit
from torch import nn

import lottapack
from lottapack.arch.labels import with_labels
from lottapack.errors import CheckpointError

S = ".lotta.safetensors"


def classifier():
    from transformers import GPT2Config, GPT2ForSequenceClassification

    config = GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=32, num_labels=3)
    return lottapack.scaffold(GPT2ForSequenceClassification(config), seed=1, rank=2).eval()


def as_trainer_does(model):
    """Trainer aligns special tokens with its tokenizer's; labels are often named late."""
    model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id = 0, 1, 2
    model.config.id2label = {0: "a", 1: "b", 2: "c"}
    model.config.problem_type = "single_label_classification"
    return model


def packed(model, tmp_path: Path, how: str) -> Path:
    path = tmp_path / f"{how}{S}"
    if how == "live":
        lottapack.pack(model, path)
    else:
        model.save_pretrained(tmp_path / how)
        lottapack.pack(tmp_path / how / ("model.safetensors" if how == "file" else ""), path)
    return path


def edit(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("how", ["live", "folder", "file"])
def test_what_changed_after_scaffold_comes_back(how, tmp_path):
    model = as_trainer_does(classifier())
    padded = torch.tensor([[5, 6, 7, 0, 0], [5, 6, 7, 8, 9]])
    path = packed(model, tmp_path, how)
    loaded = lottapack.load(path)
    assert loaded.config.pad_token_id == 0
    assert loaded.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert loaded.config.problem_type == "single_label_classification"
    assert bits(loaded(padded).logits) == bits(model(padded).logits)
    again = tmp_path / f"again{S}"
    lottapack.pack(loaded, again)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("how", ["live", "folder"])
def test_labels_that_no_key_of_a_pack_may_be_come_back(how, tmp_path):
    """Speech Commands has _unknown_ and _silence_; a pack's configuration has no key that begins so."""
    labels = ["dtype", "_unknown_", "pretrained"]
    model = classifier()
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = due = {label: number for number, label in enumerate(labels)}
    path = packed(model, tmp_path, how)
    loaded = lottapack.load(path)
    assert loaded.config.label2id == due
    assert loaded.config.id2label == model.config.id2label
    lottapack.pack(loaded, tmp_path / f"again{S}")
    assert (tmp_path / f"again{S}").read_bytes() == path.read_bytes()
    for form in ("transformers", "transformers-pack"):
        lottapack.export(path, tmp_path / form, format=form)
        assert json.loads((tmp_path / form / "config.json").read_text())["label2id"] == due
    model.config.label2id = {"_unknown_": 2}
    with pytest.raises(CheckpointError, match=r"config\.label2id is \{'_unknown_': 2\}; in a "):
        lottapack.pack(model, path)


def test_what_of_a_configuration_is_no_plain_data_is_refused(tmp_path):
    """It stood for the whole configuration once: what else had changed was lost without a word."""
    model = as_trainer_does(classifier())
    model.config.summary_extra = {"a": [object()]}
    for given in (model, model.state_dict()):
        with pytest.raises(CheckpointError, match=r"config\.summary_extra is .*; in a .* it is plain data"):
            lottapack.pack(given, tmp_path / f"a{S}")
        lottapack.pack(given, tmp_path / f"a{S}", ignore="config.summary_extra")
        assert lottapack.load(tmp_path / f"a{S}").config.id2label == model.config.id2label
    model.config.summary_extra = [np.float32(0.5), np.int64(3), np.True_]
    lottapack.pack(model, tmp_path / f"a{S}")
    assert lottapack.load(tmp_path / f"a{S}").config.summary_extra == [0.5, 3, True]


def test_a_folder_and_the_live_model_give_one_file(tmp_path):
    model = as_trainer_does(classifier())
    assert packed(model, tmp_path, "live").read_bytes() == packed(model, tmp_path, "folder").read_bytes()


@pytest.mark.parametrize("make", [tied_llama, gpt2, vit])
def test_nothing_changes_where_nothing_was_changed(make, tmp_path):
    model = lottapack.scaffold(make(), seed=1, rank=1)
    lottapack.pack(model.state_dict(), tmp_path / f"state{S}")
    for how in ("live", "folder"):
        assert packed(model, tmp_path, how).read_bytes() == (tmp_path / f"state{S}").read_bytes()


def test_each_checkpoint_of_a_run_has_its_own(tmp_path):
    model = classifier()
    for number in (3, 5):
        model.config.pad_token_id = number
        model.save_pretrained(tmp_path / f"checkpoint-{number}")
    for number in (3, 5):
        lottapack.pack(tmp_path / f"checkpoint-{number}", tmp_path / f"a{S}")
        assert lottapack.load(tmp_path / f"a{S}").config.pad_token_id == number


def test_exports_say_the_same(tmp_path):
    from transformers import AutoModelForSequenceClassification

    path = packed(as_trainer_does(classifier()), tmp_path, "live")
    for form in ("transformers", "transformers-pack"):
        lottapack.export(path, tmp_path / form, format=form)
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / form)
        assert (model.config.pad_token_id, model.config.id2label[1]) == (0, "b")
        model(torch.tensor([[5, 0], [6, 7]]))


def test_where_a_model_was_saved_is_not_what_it_is(tmp_path):
    model = classifier()
    model.config.name_or_path = "somewhere/else"
    model.config.auto_map = {"AutoModel": "other/repository--code.Model"}
    plain = packed(classifier(), tmp_path, "live").read_bytes()
    path = packed(model, tmp_path, "folder")
    assert path.read_bytes() == plain
    changes = {"_name_or_path": "x", "transformers_version": "0.0.0", "dtype": "bfloat16", "architectures": ["Other"]}
    edit(tmp_path / "folder", **changes, torch_dtype="float16", auto_map={"AutoConfig": "code.Config"})
    lottapack.pack(tmp_path / "folder", path)
    assert path.read_bytes() == plain


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"vocab_size": 65}, "its configuration (changed since: vocab_size)"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings (true -> false)"),
        ({"num_hidden_layers": 2, "bos_token_id": 7}, "num_hidden_layers (1 -> 2)"),
        ({"intermediate_size": 25}, "intermediate_size (24 -> 25)"),
    ],
)
def test_other_tensors_are_refused_by_key(changes, named, tmp_path):
    model = lottapack.scaffold(tied_llama(), seed=1, rank=1)
    model.save_pretrained(tmp_path / "a")
    edit(tmp_path / "a", **changes)
    with pytest.raises(CheckpointError) as caught:
        lottapack.pack(tmp_path / "a", tmp_path / f"a{S}")
    assert named in str(caught.value)
    assert "bos_token_id" not in str(caught.value)
    assert not (tmp_path / f"a{S}").exists()
    for key, value in changes.items():
        setattr(model.config, key, value)
    with pytest.raises(CheckpointError, match="config"):
        lottapack.pack(model, tmp_path / f"a{S}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "as JSON"),
        ("[]", "model_type is None"),
        ('{"lr": 0.1}', "model_type is None"),
        ('{"model_type": "bert"}', "model_type is 'bert'"),
        ('{"model_type": "llama", "quantization_config": {"quant_method": "gptq"}}', "quantised"),
        ('{"model_type": "llama", "hidden_size": "many"}', "hidden_size"),
    ],
)
def test_a_configuration_of_something_else_is_refused(text, said, tmp_path):
    lottapack.scaffold(tied_llama(), seed=1, rank=1).save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=said):
        lottapack.pack(tmp_path / "a", tmp_path / f"a{S}")


def test_a_folder_of_another_family_may_hold_any_config(tmp_path):
    from safetensors.torch import save_file

    model = lottapack.scaffold(mlp(), seed=1, rank=2)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"lr": 0.1}')
    lottapack.pack(tmp_path, tmp_path / f"a{S}")


def test_what_a_module_was_built_with_must_agree_with_its_configuration(tmp_path):
    model = lottapack.scaffold(tied_llama(), seed=1, rank=1)
    model.config.rms_norm_eps = 0.5  # read at construction: the module still has the old one
    with pytest.raises(CheckpointError, match=r"variance_epsilon is 1e-06; in a .* it is 0.5"):
        lottapack.pack(model, tmp_path / f"a{S}")
    model.config.rms_norm_eps = 1e-6
    model.model.norm.variance_epsilon = 0.25
    with pytest.raises(CheckpointError, match=r"model.norm.variance_epsilon is 0.25"):
        lottapack.pack(model, tmp_path / f"a{S}")
    lottapack.pack(
        model, tmp_path / f"a{S}", ignore="model.norm.variance_epsilon"
    )  # the next step that the error names


def test_a_replaced_module_is_refused(tmp_path):
    model = lottapack.scaffold(tied_llama(), seed=1, rank=1)
    model.model.layers[0].mlp.act_fn = nn.ReLU()
    with pytest.raises(CheckpointError, match=r"layers.0.mlp.act_fn is a ReLU; in a .* it is a SiLU"):
        lottapack.pack(model, tmp_path / f"a{S}")


def test_how_a_model_is_run_is_not_what_it_is(tmp_path):
    model = lottapack.scaffold(tied_llama(), seed=1, rank=1)
    before = packed(model, tmp_path, "live").read_bytes()
    newer = getattr(model, "activation_checkpointing_enable", None)
    (newer or model.gradient_checkpointing_enable)()
    model.set_attn_implementation("eager")
    model.train()
    assert packed(model, tmp_path, "live").read_bytes() == before


def test_a_sequential_is_packed_as_it_is_now(tmp_path):
    model = lottapack.scaffold(cnn(), seed=1, rank=2)
    model[1].momentum, model[1].eps = 0.5, 0.25
    model[2] = nn.LeakyReLU(0.3)
    model.append(nn.Softmax(dim=1))
    given = torch.randn(2, 3, 8, 8)
    path = packed(model.eval(), tmp_path, "live")
    loaded = lottapack.load(path)
    assert (loaded[1].momentum, loaded[1].eps, loaded[2].negative_slope) == (0.5, 0.25, 0.3)
    assert bits(loaded(given)) == bits(model(given))


def test_a_wrapped_sequential_is_the_one_inside(tmp_path):
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

    model = lottapack.scaffold(cnn(), seed=1, rank=2)
    before = packed(model, tmp_path, "live").read_bytes()
    apply_activation_checkpointing(model, check_fn=lambda module: isinstance(module, nn.ReLU | nn.Conv2d))
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert packed(model, tmp_path, "live").read_bytes() == before


def test_a_resized_layer_of_a_sequential_is_refused(tmp_path):
    model = lottapack.scaffold(mlp(), seed=1, rank=2)
    model[4].in_features = 9
    with pytest.raises(CheckpointError, match=r"4\.weight has shape \(4, 8\), but \(4, 9\)"):
        lottapack.pack(model, tmp_path / f"a{S}")


def test_a_called_architecture_holds_no_late_change(tmp_path):
    model = lottapack.build("python", "torch.nn.modules.transformer:TransformerEncoderLayer", d_model=16, nhead=2)
    model = lottapack.scaffold(model, seed=1, rank=2, targets="linear*")
    lottapack.pack(model, tmp_path / f"a{S}")
    model.norm_first = True
    with pytest.raises(CheckpointError, match=r"norm_first is True; in a .* it is False"):
        lottapack.pack(model, tmp_path / f"a{S}")


def test_a_padding_token_set_late_is_no_other_module(tmp_path):
    model = lottapack.scaffold(tied_llama(), seed=1, rank=1)
    model.config.pad_token_id = 2  # its embedding was built without
    assert lottapack.load(packed(model, tmp_path, "live")).config.pad_token_id == 2


def test_a_padding_token_that_positions_depend_on_is_refused(tmp_path):
    from transformers import RobertaConfig, RobertaModel

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = lottapack.scaffold(RobertaModel(RobertaConfig(vocab_size=32, **sizes)), seed=1, rank=1)
    model.config.pad_token_id = 2
    with pytest.raises(CheckpointError, match=r"embeddings\.padding_idx is 1; in a .* it is 2"):
        lottapack.pack(model, tmp_path / f"a{S}")


def test_of_several_numbers_of_a_label_the_greatest_counts_in_any_order():
    for order in (["2", "10"], ["10", "2"], [10, 2]):
        given = {"id2label": dict.fromkeys(order, "_a"), "label2id": {}}
        assert with_labels(given)["label2id"] == {"_a": 10}


def test_a_strangers_label_with_a_number_without_end_has_none():
    assert with_labels({"id2label": {"9" * 9999: "_a", "³": "_b", "2": "_c", "x": 1}, "label2id": {}}) == {
        "id2label": {"9" * 9999: "_a", "³": "_b", "2": "_c", "x": 1},
        "label2id": {"_c": 2},
    }
