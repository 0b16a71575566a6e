"""DistributedDataParallel leaves generated weights alone: each process keeps its own scaffold."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from models import mlp, trained
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

import lottapack


@pytest.mark.slow
def test_two_processes_each_on_its_own_scaffold(tmp_path):
    script = Path(__file__).with_name("ddp_cases.py")
    runs = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script), str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], "\n".join(said)
    assert all(text.strip().endswith("done") for text in said)


def test_plain_models_say_nothing_to_ddp(tmp_path):
    lottapack.pack(trained("mlp"), tmp_path / "a.lotta.safetensors")
    merged = lottapack.load(tmp_path / "a.lotta.safetensors", merge=True)
    assert not hasattr(merged, "_ddp_params_and_buffers_to_ignore")
    assert not hasattr(lottapack.distributed.exclude_from_ddp(mlp()), "_ddp_params_and_buffers_to_ignore")
    wrapper = nn.ModuleDict({"a": trained("mlp"), "b": nn.BatchNorm1d(3)})
    wrapper._ddp_params_and_buffers_to_ignore = ["b.running_mean"]
    names = lottapack.distributed.exclude_from_ddp(wrapper)._ddp_params_and_buffers_to_ignore
    assert names == ["a.0.backbone", "a.2.backbone", "a.lottapack_recipe", "b.running_mean"]


def test_averages_leave_the_backbone_alone_unless_asked(tmp_path):
    model = trained("mlp")
    averaged = AveragedModel(model, avg_fn=get_ema_avg_fn(0.9))
    for _ in range(3):
        averaged.update_parameters(model)
    assert torch.equal(averaged.module[0].backbone, model[0].backbone)
    assert "module.0.backbone" not in averaged.state_dict()
