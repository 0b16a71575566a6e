"""The CPU backend: kernels over pieces of NumPy arrays. It does not import torch, and numba only to compile."""

from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

from lottapack.rng.fits import fitted_when_worth
from lottapack.rng.kernels import declared
from lottapack.rng.kernels.calls import Work, run
from lottapack.rng.kernels.declared import FITTED, FORMS
from lottapack.rng.kernels.kernel import Kernel, Memory
from lottapack.rng.quantile import coefficients
from lottapack.rng.runs import Integers
from lottapack.rng.stream import ITEM_BITS, WORDS, Source
from lottapack.rng.tables import Bits, builtin, check_scale, scaled_bits
from lottapack.rng.threads import PIECE, default, pieces, run_all

_MOST = 8
"""The most pieces for each thread, so that a thread that is held up leaves its work to others."""


def prepare() -> None:
    """Load the kernels of the known-answer test. Raises UnsupportedError if one cannot be compiled."""
    for kernel in declared.CHECKED:
        for bits in (np.dtype(np.uint32), np.dtype(np.uint16)):
            kernel.prepare(bits)


def fill_bits(out: Bits, source: Source, start: int = 0) -> None:
    """Fill ``out``, shape (n,), uint32 or uint16, with elements ``start`` to ``start + n - 1`` (spec: stream)."""
    way, memory, threads = _way(source, out.size), Memory.of(out), default()
    given = [
        (memory.part(lo - start, hi - start), *way.place(lo), *way.given)
        for lo, hi in _pieces(start, out.size, threads)
    ]
    run(way.fill, given, threads)


def fill_runs_bits(out: Bits, source: Source, starts: Integers, lengths: Integers) -> None:
    """Fill ``out``, shape (n,), with runs of elements one after another: ``starts`` and ``lengths``, ascending."""
    way = _way(source, out.size)
    ends = np.cumsum(lengths)
    cuts = [0, *np.unique(np.searchsorted(ends, range(PIECE, out.size, PIECE))).tolist(), starts.size]

    def work(first: int, last: int) -> None:
        lo, hi = ends[first] - lengths[first], ends[last - 1]
        close = int(starts[last - 1] - starts[first]) < (last - first) * way.near
        part = np.empty(way.served if close else 0, out.dtype)
        way.fill_runs(out[lo:hi], starts[first:last], lengths[first:last], part, way.served, *way.given)

    tasks = [partial(work, first, last) for first, last in pairwise(cuts) if first < last]
    run_all(tasks, default())


def fingerprint_bits(bits: Bits, start: int = 0) -> int:
    """Return the fingerprint of ``bits``, shape (n,), whose first element has index ``start`` (spec: fingerprint)."""
    memory, threads = Memory.of(bits), default()
    given = [(memory.part(lo - start, hi - start), lo) for lo, hi in _pieces(start, bits.size, threads)]
    return run(declared.FINGERPRINT, given, threads)


def fingerprint_of(source: Source, count: int) -> int:
    """Return the fingerprint of the first ``count`` elements; each thread holds one block at a time."""
    way, threads, dtype = _way(source, count), default(), f"u{ITEM_BITS[source.dtype] // 8}"
    given = [  # each piece begins at a block
        (None, hi - lo, way.place(lo)[0], *way.given) for lo, hi in _pieces(0, count, threads)
    ]
    return run(way.fingerprint, given, threads, Work(0, way.served, lambda size: Memory.of(np.empty(size, dtype))))


def _pieces(start: int, count: int, threads: int) -> list[tuple[int, int]]:
    """Return ranges for threads to take, cut at multiples of PIECE, and at most _MOST for each thread."""
    return pieces(start, start + count, PIECE * max(1, count // (_MOST * threads * PIECE)))


@dataclass(frozen=True)
class _Way:
    """The fastest way to generate a source's elements: its kernels and their arguments."""

    fill: Kernel
    fill_runs: Kernel
    fingerprint: Kernel
    given: tuple[Any, ...]
    """The last arguments of all kernels: coefficients or table with its settings, key and stream."""
    served: int
    """The number of elements that a block of words serves."""
    near: int
    """Runs whose starts are at most this many elements apart on average share a block."""

    def place(self, element: int) -> tuple[int, int]:
        """Return the block that serves an element, and the element's index in that block."""
        return divmod(element, self.served)


_TABLE = declared.FILL, declared.FILL_RUNS, declared.FINGERPRINT_BLOCKS
_NORMAL16 = declared.FILL_NORMAL16, declared.FILL_RUNS_NORMAL16, declared.FINGERPRINT_NORMAL16


def _way(source: Source, count: int) -> _Way:
    """Choose the way to generate ``count`` elements, and check the scale."""
    check_scale(source.table, source.scale, source.dtype)
    served = WORDS * source.fields
    form = FORMS[source.dtype]
    if source.table.id == "normal16" and formula_holds():
        fitted = fitted_when_worth(source.scale, count) if source.dtype == "bfloat16" else None
        rows, form = (coefficients(), form) if fitted is None else (fitted, FITTED)
        return _Way(*_NORMAL16, (Memory.of(rows), source.scale, form, *source.halves), served, served)
    table = scaled_bits(source.table, source.scale, source.dtype)
    unit = float(np.float32(source.scale / 65536)) if source.table.id == "uniform16" else 0.0
    unit = unit if unit * 65536 == source.scale else 0.0  # below 2**-110 a scale can have a digit more
    given = Memory.of(table), source.table.bits, unit, form, *source.halves
    return _Way(*_TABLE, given, served, WORDS)


@cache
def formula_holds() -> bool:
    """Return whether this processor has the vectors for the formula of ``normal16`` and it gives every table entry."""
    if not declared.FORMULA:
        return False
    entries = builtin("normal16").values.view(np.uint32)
    # The entries in order: the lower halves of a block's words come first, then the upper ones.
    fields = np.arange(entries.size, dtype=np.uint32).reshape(-1, 2, WORDS)
    words = fields[:, 0] | fields[:, 1] << np.uint32(16)
    computed = np.empty_like(entries)
    declared.BLOCKS16(computed, words.reshape(-1), coefficients(), 1.0, FORMS["float32"])
    return np.array_equal(computed, entries)
