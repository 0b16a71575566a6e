"""The unit of work of a backend."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottapack.rng.stream import Source

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Job:
    """Elements to generate: ``count`` from index ``start`` on, into ``tensor``; None if only the fingerprint counts."""

    source: Source
    start: int
    count: int
    tensor: "torch.Tensor | None" = None
