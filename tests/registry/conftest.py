"""A small trained pack, and a server with a client that knows it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_runs import Hub, lead_to, serving
from torch import nn

import lottapack


def make_pack(path: Path, seed: int = 42) -> Path:
    """A pack of a tiny model; another seed makes another."""
    model = lottapack.scaffold(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)), seed=seed, rank=2)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    lottapack.pack(model, path)
    return path


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return make_pack(tmp_path / "digits.lotta.safetensors")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(tmp_path / "registry", tmp_path / "home") as running:
        lead_to(monkeypatch, running.url, running.home)
        yield running
