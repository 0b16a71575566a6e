"""A pulled pack is copied out of the cache together with its signature."""

import hashlib
from pathlib import Path

import pytest

from lottapack.errors import OutputError
from lottapack.registry import placing
from lottapack.registry.records import PullResult


@pytest.fixture
def pulled(tmp_path: Path) -> PullResult:
    """A file and its signature in a cache."""
    (tmp_path / "cache").mkdir()
    path = tmp_path / "cache" / "m.lotta.safetensors"
    path.write_bytes(b"new")
    path.with_name(f"{path.name}.sig").write_bytes(b"new signature")
    return PullResult(path, "org/m", "0" * 40, hashlib.sha256(b"new").hexdigest(), 3, 0)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An older pack with its signature."""
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "m.lotta.safetensors"
    path.write_bytes(b"old")
    path.with_name(f"{path.name}.sig").write_bytes(b"old signature")
    return path


def content(target: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in target.parent.iterdir() if path.is_file()}


def test_both_are_replaced(pulled: PullResult, target: Path) -> None:
    assert placing.place(pulled, target).path == target
    assert content(target) == {target.name: b"new", f"{target.name}.sig": b"new signature"}


def test_a_signature_that_cannot_be_written_leaves_the_old_pair(pulled: PullResult, target: Path) -> None:
    """The new pack beside the old signature would be refused wherever a signature is required."""
    signature = target.with_name(f"{target.name}.sig")
    signature.unlink()
    signature.mkdir()
    before = content(target)
    with pytest.raises(OutputError, match="is a folder"):
        placing.place(pulled, target)
    assert content(target) == before


def test_no_room_for_the_signature_leaves_the_old_pair(
    pulled: PullResult, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, before = Path.read_bytes, content(target)

    def read(path: Path) -> bytes:
        if path.suffix == ".sig":
            raise OSError(28, "No space left on device")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(OutputError, match="No space left"):
        placing.place(pulled, target)
    monkeypatch.undo()
    assert content(target) == before
