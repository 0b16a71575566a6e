"""Tiny models on disk, and Return main() with captured output."""

import pytest
import torch
from cli_runs import Files, Result, Run
from torch import nn

import lottapack
from lottapack_cli.app import main


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("model")
    model = lottapack.scaffold(
        nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)), seed=42, rank=2
    )
    checkpoint, pack = folder / "model.pt", folder / "model.lotta.safetensors"
    torch.save(model.state_dict(), checkpoint)
    lottapack.pack(model, pack)
    return Files(checkpoint, pack)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call main() in this process, which is fast."""

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call
