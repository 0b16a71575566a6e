"""Registries, a proxy, packs, and a cache and docker configuration for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from oci_proxy import Proxy
from oci_registries import BCRYPT, USER, Registry, TokenServer, running
from torch import nn

import lottapack

pytest.importorskip("oras")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache and no login of the user."""
    monkeypatch.setenv("LOTTAPACK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("ORAS_USER", "ORAS_PASS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One registry for all tests, each with its own repositories."""
    with running(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def own_registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry that the test may break."""
    with running(tmp_path) as found:
        yield found


@pytest.fixture
def locked_registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry behind a password."""
    users = tmp_path / "htpasswd"
    users.write_text(f"{USER}:{BCRYPT}\n")
    with running(tmp_path, {"htpasswd": {"realm": "tests", "path": str(users)}}) as found:
        yield found


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenServer]:
    server = TokenServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def token_registry(tmp_path: Path, tokens: TokenServer) -> Iterator[Registry]:
    """A registry that takes the token server's tokens."""
    with running(tmp_path, tokens.auth) as found:
        yield found


@pytest.fixture
def proxy(registry: Registry) -> Iterator[Proxy]:
    """A proxy before the shared registry."""
    found = Proxy(registry.host)
    yield found
    found.stop()


@pytest.fixture
def own_proxy(own_registry: Registry) -> Iterator[Proxy]:
    """A proxy before the registry that the test may break."""
    found = Proxy(own_registry.host)
    yield found
    found.stop()


def _packed(folder: Path, name: str, width: int) -> Path:
    torch.manual_seed(width)
    model = lottapack.scaffold(nn.Sequential(nn.Linear(16, 512), nn.ReLU(), nn.Linear(512, width)), seed=42, rank=2)
    lottapack.pack(model, folder / name)
    return folder / name


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a pack of a few hundred kilobytes, mostly a stored head."""
    return _packed(tmp_path_factory.mktemp("pack"), "digits.lotta.safetensors", 128)


@pytest.fixture(scope="session")
def big_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a pack of 34 MB, more than socket buffers hold."""
    return _packed(tmp_path_factory.mktemp("big"), "big.lotta.safetensors", 16384)


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """Return a unique repository name."""
    return "tests/" + "-".join(
        filter(None, "".join(c if c.isalnum() else "-" for c in request.node.name.lower()).split("-"))
    )
