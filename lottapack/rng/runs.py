"""Runs: the places of a part of a tensor in its stream, as numbers of first elements and lengths."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from lottapack.errors import UnsupportedError
from lottapack.rng.stream import check_range

Integers = npt.NDArray[np.int64]

LONG: Final = 1 << 16
"""Elements from which on a run is worth a call of its own."""


def check_runs(starts: Integers, lengths: Integers, count: int) -> None:
    """Raise UnsupportedError unless these are runs of ``count`` elements in all, ascending and apart."""
    if starts.shape != lengths.shape or starts.ndim != 1 or int(lengths.sum()) != count or (lengths < 0).any():
        raise UnsupportedError(
            f"{starts.shape} starts and {lengths.shape} lengths are no runs of {count} elements in all",
            hint="Give each run's first element and length, as many elements as the tensor has.",
        )
    if starts.size:
        check_range(int(starts[0]), 0)
        check_range(int(starts[-1]), int(lengths[-1]))
        if (starts[1:] < starts[:-1] + lengths[:-1]).any():
            raise UnsupportedError("the runs overlap or are not in order", hint="Sort them by their first element.")


def grouped(starts: Integers, lengths: Integers) -> Iterator[tuple[int, int]]:
    """Cut a list of runs into (first, last) of long runs, each alone, and of short ones between them, together."""
    long = np.flatnonzero(lengths >= LONG)
    before = 0
    for place in long.tolist():
        if before < place:
            yield before, place
        yield place, place + 1
        before = place + 1
    if before < starts.size:
        yield before, starts.size
