"""Kernels for runs of elements, such as the columns of a matrix: no call for each row.

They lie upon those of ``tables.py`` and ``normal16.py``.
"""

from typing import Any

import numpy as np

from lottapack.rng.kernels import normal16, tables
from lottapack.rng.kernels.compiler import jit

u64 = np.uint64


@jit
def fill_runs(
    out: Any,
    starts: Any,
    lengths: Any,
    part: Any,
    served: Any,
    table: Any,
    bits: Any,
    unit: Any,
    form: Any,
    k0: Any,
    k1: Any,
    s0: Any,
    s1: Any,
) -> None:
    """Fill ``out``, shape (n,), with runs of elements, one behind the other, as tables.fill() would each.

    ``starts``, ``lengths``: int64, shape (runs,), ascending. ``served``: elements that a block serves, uint64.
    ``part``: working space for a block, shape (served,), which is made once for all runs that lie in it; or shape (0,)
    for runs that lie far from each other, each of which then makes the words that it needs.
    """
    held, done = u64(0xFFFFFFFFFFFFFFFF), u64(0)
    for run in range(starts.size):
        at, left = u64(starts[run]), u64(lengths[run])
        if part.size == 0:
            tables.fill(out[done : done + left], table, bits, unit, form, at // served, at % served, k0, k1, s0, s1)
            done += left
            continue
        while left > u64(0):
            block, skip = at // served, at % served
            count = min(left, served - skip)
            if block != held:
                tables.fill(part, table, bits, unit, form, block, u64(0), k0, k1, s0, s1)
                held = block
            tables.copy(out[done : done + count], part[skip : skip + count])
            done, at, left = done + count, at + count, left - count


@jit
def fill_runs_normal16(
    out: Any,
    starts: Any,
    lengths: Any,
    part: Any,
    served: Any,
    rows: Any,
    scale: Any,
    form: Any,
    k0: Any,
    k1: Any,
    s0: Any,
    s1: Any,
) -> None:
    """As fill_runs(), as normal16.fill_normal16() would, which always makes whole blocks."""
    held, done = u64(0xFFFFFFFFFFFFFFFF), u64(0)
    for run in range(starts.size):
        at, left = u64(starts[run]), u64(lengths[run])
        if part.size == 0:
            normal16.fill_normal16(
                out[done : done + left], rows, scale, form, at // served, at % served, k0, k1, s0, s1
            )
            done += left
            continue
        while left > u64(0):
            block, skip = at // served, at % served
            count = min(left, served - skip)
            if block != held:
                normal16.fill_normal16(part, rows, scale, form, block, u64(0), k0, k1, s0, s1)
                held = block
            tables.copy(out[done : done + count], part[skip : skip + count])
            done, at, left = done + count, at + count, left - count
