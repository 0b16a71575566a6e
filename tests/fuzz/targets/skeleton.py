"""As ``pack``, and then the skeleton of what is accepted is built (imports torch, and is slower)."""

from functools import cache
from pathlib import Path

import target
from mutation import mutated
from targets.pack import ROOT, VECTORS, seeds

__all__ = ["mutated", "one", "seeds"]

SECONDS = 20.0
"""Of processor time, on a slow machine and instrumented; a configuration may take five (decision 0034)."""


@cache
def _imported() -> None:
    """Build one of each library once: what is imported amid fuzzing takes too long."""
    from lottapack import arch
    from lottapack.format.packfile import open_pack

    for path in (VECTORS / "valid").glob("*gpt2*.safetensors"):
        with open_pack(path) as pack:
            arch.build(pack.descriptor.architecture)


def _build(descriptor: object) -> object:
    from lottapack.weights.rebuild import skeleton

    return skeleton(descriptor)  # type: ignore[arg-type]


def one(data: bytes) -> None:
    """Read a file and build its skeleton."""
    _imported()
    path: Path = target.scratch(ROOT)
    try:
        target.one(data, path, _build, SECONDS)
    finally:
        path.unlink(missing_ok=True)
