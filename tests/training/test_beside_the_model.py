"""Tensors beside the scaffolded model in a checkpoint: named, refused, ignored by name, or a trainer's."""

from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from models import all_bits, mlp, trained
from torch import nn
from torch.optim.swa_utils import AveragedModel

import lottapack
from lottapack.errors import CheckpointError

PACK = "pack.lotta.safetensors"


class Wrapper(nn.Module):
    """A scaffolded part and a separate head, as in a LightningModule."""

    def __init__(self):
        super().__init__()
        self.encoder = trained("mlp")
        self.classifier = nn.Linear(4, 3)
        self.temperature = nn.Parameter(torch.tensor(2.0))


def optimizer_state():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


FORMS = {
    "module": lambda w: w,
    "state_dict": lambda w: w.state_dict(),
    "lightning": lambda w: {"state_dict": w.state_dict(), "optimizer_states": [optimizer_state()], "epoch": 3},
    "ddp": lambda w: {"model": {f"module.{name}": tensor for name, tensor in w.state_dict().items()}},
    "averaged": lambda w: AveragedModel(w).state_dict(),
}


@pytest.mark.parametrize("form", FORMS)
def test_trained_tensors_beside_the_model_are_refused_by_name(form, tmp_path):
    with pytest.raises(CheckpointError, match=r"classifier\.weight.*temperature|temperature.*classifier\.weight"):
        lottapack.pack(FORMS[form](Wrapper()), tmp_path / PACK)
    assert not (tmp_path / PACK).exists()


@pytest.mark.parametrize("form", FORMS)
def test_they_are_left_out_where_a_caller_says_so(form, tmp_path):
    wrapper = Wrapper()
    result = lottapack.pack(FORMS[form](wrapper), tmp_path / PACK, ignore=["classifier", "*temperature"])
    names = {name.removeprefix("module.") for name in result.left_out}
    assert names == {"classifier.weight", "classifier.bias", "temperature"}
    assert all_bits(lottapack.load(tmp_path / PACK)) == all_bits(wrapper.encoder)


SIBLINGS = {
    "head": lambda head: {"head": head.state_dict()},
    "head module": lambda head: {"head": head},
    "list": lambda head: {"heads": [head.state_dict()]},
    "loss": lambda head: {"criterion": {"weight": torch.ones(3)}},
    "deep": lambda head: {"extra": {"a": {"b": {"c": {"d": torch.ones(3)}}}}},
    "parameter": lambda head: {"logit_scale": nn.Parameter(torch.tensor(1.0))},
    "ema": lambda head: {"ema": {"decay": 0.9, "shadow_params": [torch.ones(3)]}},
}


@pytest.mark.parametrize("kind", SIBLINGS)
def test_siblings_of_the_state_dict_are_refused_by_name(kind, tmp_path):
    extra = SIBLINGS[kind](nn.Linear(4, 3))
    with pytest.raises(CheckpointError, match=next(iter(extra))):
        lottapack.pack({"model": trained("mlp").state_dict(), **extra}, tmp_path / PACK)


def test_what_a_trainer_keeps_for_itself_needs_no_mention(tmp_path):
    model = trained("mlp")
    content = {
        "state_dict": model.state_dict(),
        "optimizer_states": [optimizer_state()],
        "adam": optimizer_state(),
        "lr_schedulers": [{"base_lrs": [torch.tensor(1e-3)]}],
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5), "kth": torch.ones(2)}},
        "cpu_rng_state": torch.get_rng_state(),
        "train_loss": torch.tensor(0.25),
        "bestAcc": torch.tensor(0.75),
        "epoch": 4,
        "hyper_parameters": {"class_weights": torch.ones(3)},
    }
    assert lottapack.pack(content, tmp_path / PACK).left_out == ()
    assert all_bits(lottapack.load(tmp_path / PACK)) == all_bits(model)


def test_an_unused_pattern_is_an_error(tmp_path):
    model = trained("mlp")
    for pattern in ("classifer", "0.weight", "2"):
        with pytest.raises(CheckpointError, match=f"'{pattern}' does not match anything beside the model"):
            lottapack.pack(model, tmp_path / PACK, ignore=pattern)
    with pytest.raises(CheckpointError, match="names or patterns"):
        lottapack.pack(model, tmp_path / PACK, ignore=[3])


def test_a_module_added_after_scaffold_may_be_left_out(tmp_path):
    model = lottapack.scaffold(mlp(), seed=1, rank=2)
    model.probe = nn.Linear(4, 2)
    with pytest.raises(CheckpointError, match=r"probe is a torch\.nn\.modules\.linear\.Linear; in .* it is not there"):
        lottapack.pack(model.state_dict(), tmp_path / PACK)
    assert lottapack.pack(model.state_dict(), tmp_path / PACK, ignore="probe").left_out == (
        "probe",
        "probe.bias",
        "probe.weight",
    )


@pytest.mark.parametrize("nested", [False, True])
def test_of_two_models_one_is_named(nested, tmp_path):
    one, other = trained("mlp"), trained("mlp", seed=43)
    if nested:
        content = nn.ModuleDict({"first": one, "second": other})
    else:
        content = {"first": one.state_dict(), "second": other.state_dict(), "optimizer": optimizer_state()}
    with pytest.raises(CheckpointError, match="2 models: first, second"):
        lottapack.pack(content, tmp_path / PACK)
    for key, model in (("first", one), ("second", other)):
        result = lottapack.pack(content, tmp_path / PACK, key=key)
        assert result.left_out == ({"first": "second", "second": "first"}[key],)
        assert all_bits(lottapack.load(tmp_path / PACK)) == all_bits(model)
    with pytest.raises(CheckpointError, match="key='third' does not name a model"):
        lottapack.pack(content, tmp_path / PACK, key="third")


def test_the_same_words_on_the_command_line(run, tmp_path):
    wrapper = Wrapper()
    torch.save({"state_dict": wrapper.state_dict(), "ema": {"state_dict": wrapper.state_dict()}}, tmp_path / "a.ckpt")
    refused = run("pack", tmp_path / "a.ckpt", "--key", "ema.state_dict.encoder")
    assert refused.code == 2 and "--ignore" in refused.err
    done = run("pack", tmp_path / "a.ckpt", "--key", "ema", "--ignore", "classifier", "--ignore", "temperature")
    assert done.code == 0 and "left out" in done.out and "classifier.bias" in done.out and "state_dict" in done.out
    assert all_bits(lottapack.load(tmp_path / "a.lotta.safetensors")) == all_bits(wrapper.encoder)


def test_checkpoints_without_a_recipe_lose_nothing_either(tmp_path):
    torch.manual_seed(3)
    base = nn.Sequential(OrderedDict(a=nn.Linear(16, 8), b=nn.Linear(8, 4)))
    state = {f"encoder.{name}": tensor for name, tensor in base.state_dict().items()}
    content = {"model": {**state, "head.weight": torch.ones(2, 4)}, "extra": {"w": torch.ones(2)}}
    options = {"seed": 3, "architecture": nn.Sequential(OrderedDict(a=nn.Linear(16, 8), b=nn.Linear(8, 4)))}
    with pytest.raises(CheckpointError, match=r"2 tensors beside .*head\.weight, extra\.w"):
        lottapack.pack(lottapack.recover.torch_cpu(content, **options), tmp_path / PACK)
    result = lottapack.pack(lottapack.recover.torch_cpu(content, ignore=["head", "extra"], **options), tmp_path / PACK)
    assert result.left_out == ("head.weight", "extra.w")
    scaffolded = SimpleNamespace(model=trained("mlp", targets="*", train=()))
    lottapack.pack(scaffolded.model, tmp_path / PACK)
    merged = lottapack.load(tmp_path / PACK, merge=True).state_dict()
    content = {"model": {f"net.{name}": tensor for name, tensor in merged.items()}, "head": {"w": torch.ones(2)}}
    with pytest.raises(CheckpointError, match=r"1 tensors beside .*head\.w"):
        lottapack.pack(lottapack.recover.merged(content, seed=42, max_rank=2, architecture=mlp()), tmp_path / PACK)
    found = lottapack.pack(
        lottapack.recover.merged(content, seed=42, max_rank=2, architecture=mlp(), ignore="head"), tmp_path / PACK
    )
    assert found.left_out == ("head.w",) and found.layers
