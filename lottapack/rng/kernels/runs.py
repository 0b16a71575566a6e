"""Kernels for runs of elements, such as the columns of a matrix, without a call for each row.

They call the kernels of ``tables.py`` and ``normal16.py``.
"""

from typing import Any

import numpy as np

from lottapack.rng.kernels import normal16, tables
from lottapack.rng.kernels.compiler import jit

u64 = np.uint64


def _runs(fill: Any) -> Any:
    """Return the kernel for runs that calls ``fill``, which takes ``given`` after block and skip."""

    @jit
    def runs(out: Any, starts: Any, lengths: Any, part: Any, served: Any, *given: Any) -> None:
        """Fill ``out``, shape (n,), with runs of elements one after another, each as by ``fill``.

        ``starts``, ``lengths``: int64, shape (runs,), ascending. ``served``: the elements that a block serves, uint64.
        ``part``: working space of a block, shape (served,), which is generated once for all runs in it; or shape (0,)
        for runs that are far apart, each of which generates the words that it needs.
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
