"""Keys, and a pack to sign."""

from pathlib import Path

import pytest
from signing_keys import Keys, make_keys, make_pack

import lottapack

pytest.importorskip("model_signing")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def others(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Another person's keys."""
    return make_keys(tmp_path_factory.mktemp("others"))


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return make_pack(tmp_path / "digits.lotta.safetensors")


@pytest.fixture
def signed(pack: Path, keys: Keys) -> Path:
    """Write a pack with its signature."""
    lottapack.sign(pack, keys.private)
    return pack
