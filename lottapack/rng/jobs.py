"""What a backend is asked to generate."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottapack.rng.stream import Source

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Job:
    """Elements to generate: ``count`` from number ``start`` on, into ``tensor``, or into nothing if it is None."""

    source: Source
    start: int
    count: int
    tensor: "torch.Tensor | None" = None
