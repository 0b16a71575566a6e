"""The CPU backend: kernels over pieces of the tensor, on NumPy arrays. Does not import torch, nor, as a rule, numba."""

from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

from lottapack.rng.fits import fitted_when_worth
from lottapack.rng.kernels import declared
from lottapack.rng.kernels.declared import FITTED, FORMS
from lottapack.rng.kernels.kernel import Kernel, Memory
from lottapack.rng.quantile import coefficients
from lottapack.rng.runs import Integers
from lottapack.rng.stream import ITEM_BITS, WORDS, Source
from lottapack.rng.tables import Bits, builtin, check_scale, scaled_bits
from lottapack.rng.threads import PIECE, default, run_all, spread


def prepare() -> None:
    """Load the kernels that are asked the known answers. Raises UnsupportedError if one can't be compiled."""
    for kernel in declared.CHECKED:
        for bits in (np.dtype(np.uint32), np.dtype(np.uint16)):
            kernel.prepare(bits)


def fill_bits(out: Bits, source: Source, start: int = 0, threads: int | None = None) -> None:
    """Fill ``out``, shape (n,), uint32 or uint16, with elements ``start`` to ``start + n - 1`` (spec: stream)."""
    way, memory = _way(source, out.size), Memory.of(out)

    def work(lo: int, hi: int) -> None:
        way.fill(memory.part(lo - start, hi - start), *way.place(lo), *way.given)

    spread(start, start + out.size, work, threads or default())


def fill_runs_bits(out: Bits, source: Source, starts: Integers, lengths: Integers, threads: int | None = None) -> None:
    """Fill ``out``, shape (n,), with runs of elements, one behind the other: ``starts`` and ``lengths``, ascending."""
    way = _way(source, out.size)
    ends = np.cumsum(lengths)
    cuts = [0, *np.unique(np.searchsorted(ends, range(PIECE, out.size, PIECE))).tolist(), starts.size]

    def work(first: int, last: int) -> None:
        lo, hi = ends[first] - lengths[first], ends[last - 1]
        close = int(starts[last - 1] - starts[first]) < (last - first) * way.near
        part = np.empty(way.served if close else 0, out.dtype)
        way.fill_runs(out[lo:hi], starts[first:last], lengths[first:last], part, way.served, *way.given)

    tasks = [partial(work, first, last) for first, last in pairwise(cuts) if first < last]
    run_all(tasks, threads or default())


def fingerprint_bits(bits: Bits, start: int = 0, threads: int | None = None) -> int:
    """The fingerprint of ``bits``, shape (n,), whose first element is number ``start`` (spec: fingerprint)."""
    memory = Memory.of(bits)

    def work(lo: int, hi: int) -> int:
        return declared.FINGERPRINT(memory.part(lo - start, hi - start), lo)

    return sum(spread(start, start + bits.size, work, threads or default())) % 2**64


def fingerprint_of(source: Source, count: int, threads: int | None = None) -> int:
    """The fingerprint of the first ``count`` elements, of which each thread holds one block at a time."""
    way = _way(source, count)
    space = way.served, f"u{ITEM_BITS[source.dtype] // 8}"

    def work(lo: int, hi: int) -> int:
        block, _ = way.place(lo)  # pieces begin with a block
        return way.fingerprint(np.empty(*space), hi - lo, block, *way.given)

    return sum(spread(0, count, work, threads or default())) % 2**64


@dataclass(frozen=True)
class _Way:
    """The fastest way to a source's elements: its kernels, and what they are given."""

    fill: Kernel
    fill_runs: Kernel
    fingerprint: Kernel
    given: tuple[Any, ...]
    """What all take in the end: coefficients or table and its settings, key and stream."""
    served: int
    """Elements that a block of words serves."""
    near: int
    """Runs that begin no further from each other than so many elements on average share a block."""

    def place(self, element: int) -> tuple[int, int]:
        """The block that serves an element, and the element's number there."""
        return divmod(element, self.served)


_TABLE = declared.FILL, declared.FILL_RUNS, declared.FINGERPRINT_BLOCKS
_NORMAL16 = declared.FILL_NORMAL16, declared.FILL_RUNS_NORMAL16, declared.FINGERPRINT_NORMAL16


def _way(source: Source, count: int) -> _Way:
    """The way to ``count`` elements. Checks the scale."""
    check_scale(source.table, source.scale, source.dtype)
    served = WORDS * source.fields
    form = FORMS[source.dtype]
    if source.table.id == "normal16" and formula_holds():
        fitted = fitted_when_worth(source.scale, count) if source.dtype == "bfloat16" else None
        rows, form = (coefficients(), form) if fitted is None else (fitted, FITTED)
        return _Way(*_NORMAL16, (Memory.of(rows), source.scale, form, *source.halves), served, served)
    table = scaled_bits(source.table, source.scale, source.dtype)
    unit = source.scale / 65536 if source.table.id == "uniform16" else 0.0  # exact: the products are normal
    given = Memory.of(table), source.table.bits, unit, form, *source.halves
    return _Way(*_TABLE, given, served, WORDS)


@cache
def formula_holds() -> bool:
    """Whether this processor has the vectors for the formula of ``normal16``, and each entry is the table's."""
    if not declared.FORMULA:
        return False
    entries = builtin("normal16").values.view(np.uint32)
    # The entries in order: of a block's words first the lower halves count, then the upper ones.
    fields = np.arange(entries.size, dtype=np.uint32).reshape(-1, 2, WORDS)
    words = fields[:, 0] | fields[:, 1] << np.uint32(16)
    found = np.empty_like(entries)
    declared.BLOCKS16(found, words.reshape(-1), coefficients(), 1.0, FORMS["float32"])
    return np.array_equal(found, entries)
