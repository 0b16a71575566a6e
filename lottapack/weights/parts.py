"""Parts of tensors: the elements of one holder as ranges along each dimension, and their positions in the stream.

A shard of a distributed tensor is such a part, and so is a piece of a few MiB that is written before the next one.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lottapack.rng.runs import Integers

Ranges = tuple[tuple[int, int], ...]
"""Ranges of indices, each as (first, last + 1); ascending, separate, not empty."""


@dataclass(frozen=True)
class Part:
    """The elements of a tensor of shape ``whole`` whose index in each dimension is in that dimension's ranges."""

    whole: tuple[int, ...]
    ranges: tuple[Ranges, ...]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of the part."""
        return tuple(_count(ranges) for ranges in self.ranges)

    @property
    def numel(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    @property
    def is_whole(self) -> bool:
        """Whether it has all elements."""
        return self.shape == self.whole

    def indices(self, dim: int) -> Integers:
        """Return the indices along a dimension, ascending."""
        return np.concatenate([np.arange(0), *(np.arange(lo, hi) for lo, hi in self.ranges[dim])])

    def with_range(self, dim: int, ranges: Ranges) -> "Part":
        """Return the part with other ranges along one dimension."""
        return Part(self.whole, (*self.ranges[:dim], ranges, *self.ranges[dim + 1 :]))

    def runs(self) -> tuple[Integers, Integers]:
        """Return the first indices of the runs in row-major order, and their lengths: shape (n,), int64."""
        if not self.numel:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        last = len(self.whole) - 1
        while last > 0 and self.shape[last] == self.whole[last]:
            last -= 1  # complete last dimensions lengthen the runs of the one before
        if last < 0:
            return np.zeros(1, np.int64), np.ones(1, np.int64)
        step = math.prod(self.whole[last + 1 :])
        ranges = np.array(self.ranges[last], np.int64) * step
        starts, lengths = ranges[:, 0], ranges[:, 1] - ranges[:, 0]
        step *= self.whole[last]
        for dim in reversed(range(last)):
            starts = (self.indices(dim)[:, None] * step + starts).reshape(-1)
            step *= self.whole[dim]
        lengths = np.tile(lengths, starts.size // lengths.size)
        # A run that begins right after the previous one ends is joined with it.
        joined = np.flatnonzero(np.concatenate([[True], starts[1:] != starts[:-1] + lengths[:-1]]))
        return starts[joined], np.add.reduceat(lengths, joined)

    def take(self, tensor: Tensor) -> Tensor:
        """Return this part of a tensor of the whole shape, contiguous; the tensor itself if the part is everything."""
        if not (self.numel or self.is_whole):  # sizes beside a 0 may be beyond any memory
            return tensor.new_empty(self.shape)
        for dim, ranges in enumerate(self.ranges):
            if self.shape[dim] == self.whole[dim]:
                continue
            if len(ranges) == 1:
                tensor = tensor.narrow(dim, ranges[0][0], ranges[0][1] - ranges[0][0])
            else:
                tensor = tensor.index_select(dim, torch.from_numpy(self.indices(dim)).to(tensor.device))
        return tensor if self.is_whole else tensor.clone(memory_format=torch.contiguous_format)


def whole(shape: Sequence[int]) -> Part:
    """Everything."""
    return Part(tuple(shape), tuple(everything(size) for size in shape))


def everything(size: int) -> Ranges:
    """Return all indices along a dimension."""
    return ((0, size),) if size else ()


def cut(ranges: Ranges, lo: int, hi: int) -> Ranges:
    """Return the lo-th to (hi - 1)-th of the indices, counted in their order."""
    selected: list[tuple[int, int]] = []
    done = 0
    for first, end in ranges:
        begin, stop = max(lo - done, 0), min(hi - done, end - first)
        if begin < stop:
            selected.append((first + begin, first + stop))
        done += end - first
    return join(selected)


def chunk(ranges: Ranges, count: int, number: int) -> Ranges:
    """Return chunk ``number`` of ``count``, cut as by torch.chunk: equal sizes except the last, which may be empty."""
    size = -(-_count(ranges) // count)
    return cut(ranges, number * size, (number + 1) * size)


def join(ranges: Sequence[tuple[int, int]]) -> Ranges:
    """Return ascending ranges with those joined that touch."""
    joined: list[tuple[int, int]] = []
    for first, end in ranges:
        if joined and joined[-1][1] == first:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((first, end))
    return tuple(joined)


def pieces(shape: Sequence[int], limit: int) -> Iterator[Part]:
    """Cut a tensor into contiguous pieces of at most ``limit`` elements, in order; of whole rows if they fit."""
    sizes = tuple(shape)
    everywhere = whole(sizes)
    if not everywhere.numel:
        return
    dim = 0
    while dim < len(sizes) - 1 and math.prod(sizes[dim + 1 :]) > limit:
        dim += 1
    if not sizes:
        yield everywhere
        return
    step = max(1, limit // math.prod(sizes[dim + 1 :]))
    for outer in np.ndindex(*sizes[:dim]):
        fixed = tuple(((index, index + 1),) for index in outer)
        for lo in range(0, sizes[dim], step):
            window = ((lo, min(lo + step, sizes[dim])),)
            yield Part(sizes, (*fixed, window, *everywhere.ranges[dim + 1 :]))


def _count(ranges: Ranges) -> int:
    return sum(hi - lo for lo, hi in ranges)
