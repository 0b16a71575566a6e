"""The CPU backend: numba kernels over pieces of the tensor, on NumPy arrays. Does not import torch."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

from lottapack.rng import kernels, normal16, run_kernels
from lottapack.rng.fits import fitted_when_worth
from lottapack.rng.normal16_short import space
from lottapack.rng.quantile import coefficients
from lottapack.rng.runs import Integers
from lottapack.rng.stream import ITEM_BITS, WORDS, Source
from lottapack.rng.tables import Bits, builtin, check_scale, scaled_bits
from lottapack.rng.threads import PIECE, default, run_all, spread

_LOW32 = 0xFFFFFFFF


def fill_bits(out: Bits, source: Source, start: int = 0, threads: int | None = None) -> None:
    """Fill ``out``, shape (n,), uint32 or uint16, with elements ``start`` to ``start + n - 1`` (spec: stream)."""
    way = _way(source, out.size)

    def work(lo: int, hi: int) -> None:
        way.fill(out[lo - start : hi - start], *way.settings, *way.place(lo), *way.halves)

    spread(start, start + out.size, work, threads or default())


def fill_runs_bits(out: Bits, source: Source, starts: Integers, lengths: Integers, threads: int | None = None) -> None:
    """Fill ``out``, shape (n,), with runs of elements, one behind the other: ``starts`` and ``lengths``, ascending."""
    way = _way(source, out.size)
    kernel = run_kernels.KERNELS[way.fill]
    ends = np.cumsum(lengths)
    cuts = [0, *np.unique(np.searchsorted(ends, range(PIECE, out.size, PIECE))).tolist(), starts.size]

    def work(first: int, last: int) -> None:
        lo, hi = ends[first] - lengths[first], ends[last - 1]
        runs = starts[first:last], lengths[first:last]
        kernel(out[lo:hi], *runs, np.uint64(way.served), *way.settings, *way.halves)

    tasks = [partial(work, first, last) for first, last in pairwise(cuts) if first < last]
    run_all(tasks, threads or default())


def fingerprint_bits(bits: Bits, start: int = 0, threads: int | None = None) -> int:
    """The fingerprint of ``bits``, shape (n,), whose first element is number ``start`` (spec: fingerprint)."""

    def work(lo: int, hi: int) -> int:
        return _fingerprint(bits[lo - start : hi - start], lo)

    return sum(spread(start, start + bits.size, work, threads or default())) % 2**64


def fingerprint_of(source: Source, count: int, threads: int | None = None) -> int:
    """The fingerprint of the first ``count`` elements, of which each thread holds one block at a time."""
    way = _way(source, count)
    space = way.served, f"u{ITEM_BITS[source.dtype] // 8}"

    def work(lo: int, hi: int) -> int:
        block, _ = way.place(lo)  # pieces begin with a block
        return int(way.fingerprint(np.empty(*space), np.uint64(hi - lo), *way.settings, block, *way.halves))

    return sum(spread(0, count, work, threads or default())) % 2**64


@dataclass(frozen=True)
class _Way:
    """The fastest way to a source's elements: two kernels, and what both are given."""

    fill: Callable[..., None]
    fingerprint: Callable[..., int]
    settings: tuple[Any, ...]
    served: int
    """Elements that a block of words serves."""
    halves: list[Any]
    """Key and stream."""

    def place(self, element: int) -> tuple[Any, Any]:
        """The block that serves an element, and the element's number there."""
        return np.uint64(element // self.served), np.uint64(element % self.served)


_FORMS = {"float32": kernels.FLOAT32, "bfloat16": kernels.BFLOAT16, "float16": kernels.FLOAT16}


def _way(source: Source, count: int) -> _Way:
    """The way to ``count`` elements. Checks the scale."""
    check_scale(source.table, source.scale, source.dtype)
    served = WORDS * source.fields
    halves = [np.uint64(half) for half in (*source.key, source.stream & _LOW32, source.stream >> 32)]
    form = _FORMS[source.dtype]
    if source.table.id == "normal16" and formula_holds():
        fitted = fitted_when_worth(source.scale, count) if form == kernels.BFLOAT16 else None
        scale = np.float32(source.scale)
        given = (coefficients(), scale, form) if fitted is None else (fitted, scale, normal16.FITTED)
        return _Way(normal16.fill_normal16, normal16.fingerprint_normal16, given, served, halves)
    table, bits = scaled_bits(source.table, source.scale, source.dtype), np.uint64(source.table.bits)
    unit = np.float32(source.scale / 65536 if source.table.id == "uniform16" else 0)  # exact: the products are normal
    return _Way(kernels.fill, kernels.fingerprint_blocks, (table, bits, unit, form), served, halves)


@cache
def formula_holds() -> bool:
    """Whether this processor has the vectors for the formula of ``normal16``, and each entry is the table's."""
    if not normal16.FORMULA:
        return False
    entries = builtin("normal16").values.view(np.uint32)
    rows, part = coefficients(), np.empty(2 * WORDS, np.uint32)
    work = space()
    for first in range(0, entries.size // 2, WORDS):  # all indices below the middle, and those above
        low, high = (slice(at, at + WORDS) for at in (first, first + entries.size // 2))
        work[:WORDS] = np.arange(first, first + WORDS, dtype=np.uint32) * np.uint32(0x10001) + np.uint32(0x80000000)
        normal16.elements16(part, work, rows, np.float32(1), kernels.FLOAT32)
        if not np.array_equal(part, np.concatenate([entries[low], entries[high]])):
            return False
    return True


def _fingerprint(bits: Bits, start: int) -> int:
    bits = bits.view()
    bits.flags.writeable = False  # one type for numba, and so one compilation
    return int(kernels.fingerprint(bits, np.uint64(start)))
