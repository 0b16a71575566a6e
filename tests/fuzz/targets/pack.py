"""A file: container and descriptor, with the vectors as first inputs."""

from collections.abc import Iterator
from pathlib import Path

import target
from mutation import mutated

__all__ = ["mutated", "one", "seeds"]

ROOT = Path(__file__).parents[3]
VECTORS = ROOT / "spec" / "v1" / "vectors" / "files"


def seeds() -> Iterator[bytes]:
    """The vectors, valid and invalid."""
    for path in sorted(VECTORS.glob("*/*.safetensors")):
        if path.stat().st_size < 100_000:
            yield path.read_bytes()


def one(data: bytes) -> None:
    """Read a file as everything does that needs no torch."""
    path = target.scratch(ROOT)
    try:
        target.one(data, path)
    finally:
        path.unlink(missing_ok=True)
