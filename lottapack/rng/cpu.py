"""The CPU backend: numba kernels over pieces of the tensor, on NumPy arrays. Does not import torch."""

from collections.abc import Callable

import numpy as np

from lottapack.rng import kernels
from lottapack.rng.stream import WORDS, Source
from lottapack.rng.tables import Bits, scaled_bits
from lottapack.rng.threads import default, spread

_LOW32 = 0xFFFFFFFF


def fill_bits(out: Bits, source: Source, start: int = 0, threads: int | None = None) -> None:
    """Fill ``out``, shape (n,), uint32 or uint16, with elements ``start`` to ``start + n - 1`` (spec: stream)."""
    fill = _filler(source)

    def work(lo: int, hi: int) -> None:
        fill(out[lo - start : hi - start], lo)

    spread(start, start + out.size, work, threads or default())


def fingerprint_bits(bits: Bits, start: int = 0, threads: int | None = None) -> int:
    """The fingerprint of ``bits``, shape (n,), whose first element is number ``start`` (spec: fingerprint)."""

    def work(lo: int, hi: int) -> int:
        return _fingerprint(bits[lo - start : hi - start], lo)

    return sum(spread(start, start + bits.size, work, threads or default())) % 2**64


def fingerprint_of(source: Source, count: int, threads: int | None = None) -> int:
    """The fingerprint of the first ``count`` elements, of which each thread holds one piece at a time."""
    fill = _filler(source)
    dtype = scaled_bits(source.table, source.scale, source.dtype).dtype

    def work(lo: int, hi: int) -> int:
        bits = np.empty(hi - lo, dtype)
        fill(bits, lo)
        return _fingerprint(bits, lo)

    return sum(spread(0, count, work, threads or default())) % 2**64


def _filler(source: Source) -> Callable[[Bits, int], None]:
    """What fills an array with the source's elements from a given number on; checks the scale."""
    table, bits = scaled_bits(source.table, source.scale, source.dtype), np.uint64(source.table.bits)
    exact = source.table.id == "uniform16" and source.dtype == "float32"
    unit = np.float32(source.scale / 65536 if exact else 0)  # exact, and normal because the products are
    stream = source.stream
    halves = [np.uint64(half) for half in (*source.key, stream & _LOW32, stream >> 32)]
    served = WORDS * source.fields

    def fill(out: Bits, start: int) -> None:
        kernels.fill(out, table, bits, unit, np.uint64(start // served), np.uint64(start % served), *halves)

    return fill


def _fingerprint(bits: Bits, start: int) -> int:
    bits = bits.view()
    bits.flags.writeable = False  # one type for numba, and so one compilation
    return int(kernels.fingerprint(bits, np.uint64(start)))
