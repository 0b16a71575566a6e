"""The numba kernels for runs of elements, such as the columns of a matrix: no call for each row.

They lie upon those of ``kernels.py`` and ``normal16.py``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from lottapack.rng import kernels, normal16
from lottapack.rng.kernel_cache import jit

u64 = np.uint64
_WORDS = u64(1024)


@jit
def fill_runs(
    out: Any,
    starts: Any,
    lengths: Any,
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
    """Fill ``out``, shape (n,), with runs of elements, one behind the other, as kernels.fill() would each.

    ``starts``, ``lengths``: int64, shape (runs,), ascending. ``served``: elements that a block serves, uint64. Runs
    that lie near each other share a block, which is then made once; elsewhere each run makes the words that it needs.
    """
    close = u64(starts[-1] - starts[0]) < u64(starts.size) * _WORDS
    part, held = np.empty(served if close else u64(0), out.dtype), u64(0xFFFFFFFFFFFFFFFF)
    done = u64(0)
    for run in range(starts.size):
        at, left = u64(starts[run]), u64(lengths[run])
        if not close:
            kernels.fill(out[done : done + left], table, bits, unit, form, at // served, at % served, k0, k1, s0, s1)
            done += left
            continue
        while left > u64(0):
            block, skip = at // served, at % served
            count = min(left, served - skip)
            if block != held:
                kernels.fill(part, table, bits, unit, form, block, u64(0), k0, k1, s0, s1)
                held = block
            out[done : done + count] = part[skip : skip + count]
            done, at, left = done + count, at + count, left - count


@jit
def fill_runs_normal16(
    out: Any,
    starts: Any,
    lengths: Any,
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
    close = u64(starts[-1] - starts[0]) < u64(starts.size) * served
    part, held = np.empty(served if close else u64(0), out.dtype), u64(0xFFFFFFFFFFFFFFFF)
    done = u64(0)
    for run in range(starts.size):
        at, left = u64(starts[run]), u64(lengths[run])
        if not close:
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
            out[done : done + count] = part[skip : skip + count]
            done, at, left = done + count, at + count, left - count


KERNELS: dict[Any, Callable[..., None]] = {kernels.fill: fill_runs, normal16.fill_normal16: fill_runs_normal16}
"""By the kernel that fills one range."""
