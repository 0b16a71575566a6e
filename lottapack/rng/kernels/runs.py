"""Kernels for runs of elements, such as the columns of a matrix: no call for each row.

They lie upon those of ``tables.py`` and ``normal16.py``.
"""

from typing import Any

import numpy as np

from lottapack.rng.kernels import normal16, tables
from lottapack.rng.kernels.compiler import jit

u64 = np.uint64


def _runs(fill: Any) -> Any:
    """The kernel for runs that lies upon ``fill``, which takes ``given`` behind block and skip."""

    @jit
    def runs(out: Any, starts: Any, lengths: Any, part: Any, served: Any, *given: Any) -> None:
        """Fill ``out``, shape (n,), with runs of elements, one behind the other, as ``fill`` would each.

        ``starts``, ``lengths``: int64, shape (runs,), ascending. ``served``: elements that a block serves, uint64.
        ``part``: working space for a block, shape (served,), which is made once for all runs that lie in it; or shape
        (0,) for runs that lie far from each other, each of which then makes the words that it needs.
        """
        held, done = u64(0xFFFFFFFFFFFFFFFF), u64(0)
        for run in range(starts.size):
            at, left = u64(starts[run]), u64(lengths[run])
            if part.size == 0:
                fill(out[done : done + left], at // served, at % served, *given)
                done += left
                continue
            while left > u64(0):
                block, skip = at // served, at % served
                count = min(left, served - skip)
                if block != held:
                    fill(part, block, u64(0), *given)
                    held = block
                tables.copy(out[done : done + count], part[skip : skip + count])
                done, at, left = done + count, at + count, left - count

    return runs


fill_runs, fill_runs_normal16 = _runs(tables.fill), _runs(normal16.fill_normal16)
