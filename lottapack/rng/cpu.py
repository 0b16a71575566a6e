"""The CPU backend: numba kernels over pieces of the tensor, on NumPy arrays. Does not import torch."""

from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

from lottapack.rng import kernels, run_kernels
from lottapack.rng.quantile import coefficients
from lottapack.rng.runs import Integers
from lottapack.rng.stream import ITEM_BITS, WORDS, Source
from lottapack.rng.tables import Bits, builtin, check_scale, scaled_bits
from lottapack.rng.threads import PIECE, default, run_all, spread

_LOW32 = 0xFFFFFFFF


def fill_bits(out: Bits, source: Source, start: int = 0, threads: int | None = None) -> None:
    """Fill ``out``, shape (n,), uint32 or uint16, with elements ``start`` to ``start + n - 1`` (spec: stream)."""
    fill = _filler(source)

    def work(lo: int, hi: int) -> None:
        fill(out[lo - start : hi - start], lo)

    spread(start, start + out.size, work, threads or default())


def fill_runs_bits(out: Bits, source: Source, starts: Integers, lengths: Integers, threads: int | None = None) -> None:
    """Fill ``out``, shape (n,), with runs of elements, one behind the other: ``starts`` and ``lengths``, ascending."""
    kernel, settings, served, halves = _kernel(source)
    kernel = run_kernels.KERNELS[kernel]
    ends = np.cumsum(lengths)
    cuts = [0, *np.unique(np.searchsorted(ends, range(PIECE, out.size, PIECE))).tolist(), starts.size]

    def work(first: int, last: int) -> None:
        lo, hi = ends[first] - lengths[first], ends[last - 1]
        kernel(out[lo:hi], starts[first:last], lengths[first:last], np.uint64(served), *settings, *halves)

    tasks = [partial(work, first, last) for first, last in pairwise(cuts) if first < last]
    run_all(tasks, threads or default())


def fingerprint_bits(bits: Bits, start: int = 0, threads: int | None = None) -> int:
    """The fingerprint of ``bits``, shape (n,), whose first element is number ``start`` (spec: fingerprint)."""

    def work(lo: int, hi: int) -> int:
        return _fingerprint(bits[lo - start : hi - start], lo)

    return sum(spread(start, start + bits.size, work, threads or default())) % 2**64


def fingerprint_of(source: Source, count: int, threads: int | None = None) -> int:
    """The fingerprint of the first ``count`` elements, of which each thread holds one piece at a time."""
    fill = _filler(source)

    def work(lo: int, hi: int) -> int:
        bits = np.empty(hi - lo, f"u{ITEM_BITS[source.dtype] // 8}")
        fill(bits, lo)
        return _fingerprint(bits, lo)

    return sum(spread(0, count, work, threads or default())) % 2**64


Filler = Callable[[Bits, int], None]
"""Fills an array with the elements from a given number on."""

_FORMS = {"float32": 0, "bfloat16": 1, "float16": 2}


def _filler(source: Source) -> Filler:
    """The fastest way to a source's elements; checks the scale."""
    kernel, settings, served, halves = _kernel(source)

    def fill(out: Bits, start: int) -> None:
        kernel(out, *settings, np.uint64(start // served), np.uint64(start % served), *halves)

    return fill


def _kernel(source: Source) -> tuple[Callable[..., None], tuple[Any, ...], int, list[Any]]:
    """The kernel for a source, its settings, how many elements a block serves, and key and stream; checks the scale."""
    check_scale(source.table, source.scale, source.dtype)
    served = WORDS * source.fields
    halves = [np.uint64(half) for half in (*source.key, source.stream & _LOW32, source.stream >> 32)]
    if source.table.id == "normal16" and formula_holds():
        form = np.uint64(_FORMS[source.dtype])
        return kernels.fill_normal16, (coefficients(), np.float32(source.scale), form), served, halves
    table, bits = scaled_bits(source.table, source.scale, source.dtype), np.uint64(source.table.bits)
    exact = source.table.id == "uniform16" and source.dtype == "float32"
    unit = np.float32(source.scale / 65536 if exact else 0)  # exact, and normal because the products are
    return kernels.fill, (table, bits, unit), served, halves


@cache
def formula_holds() -> bool:
    """Whether this processor has the vectors for the formula of ``normal16``, and each entry is the table's."""
    if not kernels.FORMULA:
        return False
    table = builtin("normal16").values
    words = np.arange(table.size // 2, dtype=np.uint32)
    words |= (words + np.uint32(words.size)) << np.uint32(16)
    entries, t, piece = np.empty(table.size, np.uint32), np.empty(words.size, np.float32), np.empty_like(words)
    kernels.normal16(entries, words, t, piece, coefficients(), np.float32(1), np.uint64(_FORMS["float32"]))
    return np.array_equal(entries, table.view(np.uint32))


def _fingerprint(bits: Bits, start: int) -> int:
    bits = bits.view()
    bits.flags.writeable = False  # one type for numba, and so one compilation
    return int(kernels.fingerprint(bits, np.uint64(start)))
