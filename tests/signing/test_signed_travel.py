"""Signatures travel with packs through both kinds of registry."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from signing_keys import Keys, make_pack

import lottapack
from lottapack.errors import RegistryError, SignatureError

TESTS = Path(__file__).parents[1]
REPO = "my-org/signed"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.syspath_prepend(str(TESTS / "registry"))
    from hub_runs import lead_to, serving

    with serving(tmp_path / "registry", tmp_path / "home") as running:
        lead_to(monkeypatch, running.url, running.home)
        yield running


def test_through_a_hub(hub: object, signed: Path, keys: Keys, others: Keys) -> None:
    sent = lottapack.push(signed, REPO)
    assert f"{signed.name}.sig" in [file.name for file in sent.sent]
    assert lottapack.load(REPO, require_signature=keys.public)
    got = lottapack.pull(f"{REPO}@{sent.revision}")
    assert got.received == 0
    assert got.path.with_name(f"{signed.name}.sig").read_bytes() == signed.with_name(f"{signed.name}.sig").read_bytes()
    with pytest.raises(SignatureError, match="was not made with the private key"):
        lottapack.load(REPO, require_signature=others.public)


def test_a_pack_that_is_replaced_by_one_without_a_signature(hub: object, signed: Path, keys: Keys) -> None:
    lottapack.push(signed, REPO)
    assert lottapack.load(REPO, require_signature=keys.public)
    make_pack(signed, seed=43)
    signed.with_name(f"{signed.name}.sig").unlink()
    lottapack.push(signed, REPO)
    with pytest.raises(SignatureError, match="is not signed"):
        lottapack.load(REPO, require_signature=keys.public)


def test_a_signature_as_large_as_a_model_is_not_fetched(hub: Any, pack: Path) -> None:
    lottapack.push(pack, REPO)
    hub.commit(REPO, f"{pack.name}.sig", b" " * 1_000_001)
    with pytest.raises(RegistryError, match=r"\.sig has 1,000,001 bytes, but only 1,000,000 are allowed"):
        lottapack.pull(REPO)


def test_through_an_oci_registry(
    signed: Path, keys: Keys, others: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("oras")
    monkeypatch.syspath_prepend(str(TESTS / "oci"))
    from oci_registries import running

    monkeypatch.setenv("LOTTAPACK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "docker").mkdir()
    with running(tmp_path / "docker") as registry:
        reference = f"oci://{registry.host}/signed/digits:v1"
        lottapack.push(signed, reference)
        assert lottapack.load(reference, require_signature=keys.public)
        with pytest.raises(SignatureError, match="was not made with the private key"):
            lottapack.load(reference, require_signature=others.public)
        plain = tmp_path / "plain"
        plain.mkdir()
        lottapack.push(shutil.copy(signed, plain), reference)
        with pytest.raises(SignatureError, match="is not signed"):
            lottapack.load(reference, require_signature=keys.public)
    assert "model_signing" in sys.modules
