"""A table of the ways in which people save a model.

Lightning and DeepSpeed are not installed for the tests: this module makes checkpoints with the keys and dtypes that
they write. FSDP2 is in test_ddp.py, with two processes; names and folders of PEFT are in test_unusual_checkpoints.py.
"""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from models import all_bits, trained
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn
from training_models import BUILD, arguments, dataset

import lottapack
from lottapack.errors import CheckpointError

PACK = "pack.lotta.safetensors"


class Module(nn.Module):
    """Like a LightningModule that holds only the model."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net


def lightning(model: nn.Module, **more: object) -> dict[str, object]:
    """Make a checkpoint with the keys of Lightning 2."""
    wrapped = Module(model)
    optimizer = torch.optim.AdamW(parameter for parameter in model.parameters() if parameter.requires_grad)
    return {
        "epoch": 1,
        "global_step": 10,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": wrapped.state_dict(),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"last_epoch": 1}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"width": 16},
        **more,
    }


def saved(folder: Path, content: object, name: str = "model.ckpt") -> Path:
    torch.save(content, folder / name)
    return folder / name


def lightning_plain(model, folder):
    return saved(folder, lightning(model))


def lightning_bf16_true(model, folder):
    return saved(folder, lightning(model.bfloat16()))


def lightning_with_averages(model, folder):
    return saved(folder, lightning(model, current_model_state=Module(copy.deepcopy(model)).state_dict()))


def lightning_with_a_head(model, folder):
    content = lightning(model)
    content["state_dict"]["head.weight"] = torch.ones(2, 2)
    return saved(folder, content)


def neighbours(model, folder):
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return saved(folder, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "acc": np.float64(0.5)})


def timm_with_ema(model, folder):
    return saved(folder, {"state_dict": model.state_dict(), "state_dict_ema": model.state_dict(), "epoch": 3})


def whole_model(model, folder):
    return saved(folder, model, "model.pt")


def safetensors(model, folder):
    save_file(model.state_dict(), folder / "model.safetensors")
    return folder


def shards(model, folder):
    from huggingface_hub import save_torch_state_dict

    save_torch_state_dict(model.state_dict(), folder, max_shard_size=1000)
    assert (folder / "model.safetensors.index.json").exists()
    return folder


def accelerate_model(model, folder):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    accelerator.save_model(accelerator.prepare(model), folder)
    return folder


def accelerate_state(model, folder):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.1))
    accelerator.save_state(folder)
    return folder


def accelerate_two_models(model, folder):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    accelerator.prepare(model, nn.Linear(2, 2))
    accelerator.save_state(folder)
    return folder


def compiled_whole(model, folder):
    return saved(folder, torch.compile(model, backend="eager").state_dict())


def compiled_by_region(model, folder):
    model = copy.deepcopy(model)
    model[0], model[3] = (torch.compile(model[index], backend="eager") for index in (0, 3))
    return saved(folder, {"model": model.state_dict()})


def ema(model, folder):
    average = AveragedModel(model, avg_fn=get_ema_avg_fn(0.9))
    average.update_parameters(model)
    return saved(folder, average.state_dict())


def swa(model, folder):
    average = AveragedModel(model, use_buffers=True)
    average.update_parameters(model)
    return saved(folder, average.state_dict())


def ema_of_the_state_dict(model, folder):
    """Some libraries average each entry of a state_dict, the recipe included."""
    state = dict(model.state_dict())
    state["lottapack_recipe"] = 0.9 * state["lottapack_recipe"] + 0.1 * state["lottapack_recipe"]
    return saved(folder, state)


def deepspeed_consolidated(model, folder):
    """zero_to_fp32.py: parameters in float32, and every buffer by ``.float()``."""
    return saved(folder, {name: tensor.float() for name, tensor in model.state_dict().items()}, "pytorch_model.bin")


def deepspeed_parts(model, folder):
    (folder / "global_step1").mkdir()
    (folder / "zero_to_fp32.py").touch()
    saved(folder / "global_step1", {"module": model.state_dict()}, "mp_rank_00_model_states.pt")
    return folder


TABLE = {
    lightning_plain: None,
    lightning_bf16_true: None,
    lightning_with_averages: "contains 2 models: state_dict.net, current_model_state.net",
    lightning_with_a_head: r"1 tensors beside the scaffolded model .*: head\.weight",
    neighbours: None,
    timm_with_ema: "contains 2 models: state_dict, state_dict_ema",
    whole_model: r"contains `torch\.nn\.modules\.container\.Sequential`",
    safetensors: None,
    shards: None,
    accelerate_model: None,
    accelerate_state: None,
    accelerate_two_models: r"model\.safetensors, which would not be in the pack: model_1\.safetensors",
    compiled_whole: None,
    compiled_by_region: None,
    ema: None,
    swa: None,
    ema_of_the_state_dict: None,
    deepspeed_consolidated: None,
    deepspeed_parts: "does not contain a checkpoint",
}
"""By way of saving: None where the pack holds the bits of the model, or what the error says."""


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
@pytest.mark.parametrize("way", TABLE, ids=lambda way: way.__name__)
def test_what_goes_in_comes_out(way, tmp_path, run):
    model = trained("cnn")
    (tmp_path / "saved").mkdir()
    checkpoint = way(model, tmp_path / "saved")
    result = run("pack", checkpoint, "-o", tmp_path / PACK)
    if TABLE[way] is None:
        assert (result.code, result.err) == (0, "")
        dtype = torch.bfloat16 if way is lightning_bf16_true else None
        found, expected = all_bits(lottapack.load(tmp_path / PACK, dtype=dtype)), all_bits(model)
        if dtype is not None:  # the pack's own recipe records the dtype of the moment of packing
            assert found.pop("lottapack_recipe") != expected.pop("lottapack_recipe")
        assert found == expected
    else:
        assert result.code == 2
        with pytest.raises(CheckpointError, match=TABLE[way]):
            lottapack.pack(checkpoint, tmp_path / PACK)


def test_the_trainer(tmp_path, run):
    from transformers import Trainer

    model = lottapack.scaffold(BUILD["distilbert"](), seed=7, rank=2)
    Trainer(
        model=model,
        args=arguments(tmp_path / "run", max_steps=1, save_steps=1),
        train_dataset=dataset("distilbert"),
    ).train()
    refused = run("pack", tmp_path / "run")
    assert refused.code == 2 and f"the newest is {tmp_path / 'run' / 'checkpoint-1'}" in refused.err
    assert run("pack", tmp_path / "run" / "checkpoint-1", "-o", tmp_path / PACK).code == 0
    rebuilt = lottapack.load(tmp_path / PACK)
    due = all_bits(model.eval())
    found = all_bits(rebuilt)
    assert {name: found[name] for name in due if name != "lottapack_recipe"} == {
        name: bits for name, bits in due.items() if name != "lottapack_recipe"
    }
