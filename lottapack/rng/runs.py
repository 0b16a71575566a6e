"""Runs: the positions in the stream of a part of a tensor, as first indices and lengths."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from lottapack.errors import UnsupportedError
from lottapack.rng.stream import check_range

Integers = npt.NDArray[np.int64]

LONG: Final = 1 << 16
"""Runs of at least this many elements are filled by a call of their own."""


def check_runs(starts: Integers, lengths: Integers, count: int) -> None:
    """Raise UnsupportedError unless the runs ascend, do not overlap, and have ``count`` elements in all."""
    if starts.shape != lengths.shape or starts.ndim != 1 or int(lengths.sum()) != count or (lengths < 0).any():
        raise UnsupportedError(
            f"starts of shape {starts.shape} and lengths of shape {lengths.shape} do not describe runs of "
            f"{count} elements in all",
            hint="Pass each run's first index and length; the lengths must add up to the tensor's elements.",
        )
    if starts.size:
        check_range(int(starts[0]), 0)
        check_range(int(starts[-1]), int(lengths[-1]))
        if (starts[1:] < starts[:-1] + lengths[:-1]).any():
            raise UnsupportedError("the runs overlap or are not in order", hint="Sort them by their first element.")


def grouped(starts: Integers, lengths: Integers) -> Iterator[tuple[int, int]]:
    """Group runs as (first, last): each long run alone, and the short runs between them together."""
    long = np.flatnonzero(lengths >= LONG)
    before = 0
    for index in long.tolist():
        if before < index:
            yield before, index
        yield index, index + 1
        before = index + 1
    if before < starts.size:
        yield before, starts.size
