"""Files for the examples in docstrings: a pack, its checkpoint, keys, and a registry on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_runs import lead_to, make_pack, serving
from signing_keys import make_keys
from torch import nn

import lottapack


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make the folder in which examples run."""
    here = tmp_path / "examples"
    here.mkdir()
    make_pack(here / "model.lotta.safetensors")
    net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    torch.save(lottapack.scaffold(net, seed=42, rank=2).state_dict(), here / "checkpoint.pt")
    monkeypatch.chdir(here)
    yield here


@pytest.fixture
def keys(folder: Path) -> None:
    """Write a pair of keys."""
    pytest.importorskip("model_signing")
    make_keys(folder)


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start a registry on loopback with one pack and point this process's client to it."""
    with serving(tmp_path / "registry", tmp_path / "home") as running:
        lead_to(monkeypatch, running.url, running.home)
        yield


@pytest.fixture
def digits(hub: None) -> None:
    """Make a repository in the registry."""
    lottapack.push("model.lotta.safetensors", "my-org/digits", tag="v1")


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make a process group of one process."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()
