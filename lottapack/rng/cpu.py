"""The CPU backend: numba kernels over pieces of the tensor, on NumPy arrays. Does not import torch."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from lottapack.rng import kernels, normal16
from lottapack.rng.quantile import NEAR, coefficients, near_coefficients
from lottapack.rng.stream import ITEM_BITS, WORDS, Source
from lottapack.rng.tables import Bits, builtin, check_scale, scaled_bits
from lottapack.rng.threads import default, spread

_LOW32 = 0xFFFFFFFF


def fill_bits(out: Bits, source: Source, start: int = 0, threads: int | None = None) -> None:
    """Fill ``out``, shape (n,), uint32 or uint16, with elements ``start`` to ``start + n - 1`` (spec: stream)."""
    made = _kernels(source)

    def work(lo: int, hi: int) -> None:
        made.fill(out[lo - start : hi - start], lo)

    spread(start, start + out.size, work, threads or default())


def fingerprint_bits(bits: Bits, start: int = 0, threads: int | None = None) -> int:
    """The fingerprint of ``bits``, shape (n,), whose first element is number ``start`` (spec: fingerprint)."""

    def work(lo: int, hi: int) -> int:
        return _fingerprint(bits[lo - start : hi - start], lo)

    return sum(spread(start, start + bits.size, work, threads or default())) % 2**64


def fingerprint_of(source: Source, count: int, threads: int | None = None) -> int:
    """The fingerprint of the first ``count`` elements, of which no more than a block a thread is ever in memory."""
    made = _kernels(source)
    space = WORDS * source.fields, f"u{ITEM_BITS[source.dtype] // 8}"

    def work(lo: int, hi: int) -> int:
        return made.fingerprint(np.empty(*space), lo, hi - lo)

    return sum(spread(0, count, work, threads or default())) % 2**64


@dataclass(frozen=True)
class _Kernels:
    """The fastest ways to a source's elements.

    ``fill(out, start)``: write the elements from number ``start`` on. ``fingerprint(space, start, count)``: that of
    ``count`` elements from ``start`` on, which begins a block; ``space`` is for the elements of one.
    """

    fill: Callable[[Bits, int], None]
    fingerprint: Callable[[Bits, int, int], int]


_FORMS = {"float32": kernels.FLOAT32, "bfloat16": kernels.BFLOAT16, "float16": kernels.FLOAT16}


def _kernels(source: Source) -> _Kernels:
    """Checks the scale."""
    check_scale(source.table, source.scale, source.dtype)
    served = WORDS * source.fields
    halves = [np.uint64(half) for half in (*source.key, source.stream & _LOW32, source.stream >> 32)]
    form = _FORMS[source.dtype]
    if source.table.id == "normal16" and formula_holds():
        fill, fingerprint = normal16.fill_normal16, normal16.fingerprint_normal16
        given = coefficients(), near_coefficients(), np.float32(source.scale), form
    else:
        fill, fingerprint = kernels.fill, kernels.fingerprint_blocks
        unit = np.float32(source.scale / 65536 if source.table.id == "uniform16" else 0)  # exact: products are normal
        table = scaled_bits(source.table, source.scale, source.dtype)
        given = table, np.uint64(source.table.bits), unit, form

    def filled(out: Bits, start: int) -> None:
        fill(out, *given, np.uint64(start // served), np.uint64(start % served), *halves)

    def fingerprinted(space: Bits, start: int, count: int) -> int:
        return int(fingerprint(space, np.uint64(count), *given, np.uint64(start // served), *halves))

    return _Kernels(filled, fingerprinted)


@cache
def formula_holds() -> bool:
    """Whether this processor has the vectors for the formula of ``normal16``, and each entry is the table's.

    And the shorter polynomial's within NEAR units of it.
    """
    if not normal16.FORMULA:
        return False
    entries = builtin("normal16").values.view(np.uint32)
    magnitudes = (entries & np.uint32(0x7FFFFFFF)).view(np.int32)
    rows, near, part = coefficients(), near_coefficients(), np.empty(2 * WORDS, np.uint32)
    words, *space = normal16.space()
    for first in range(0, entries.size // 2, WORDS):  # all indices below the middle, and those above
        low, high = (slice(at, at + WORDS) for at in (first, first + entries.size // 2))
        words[:] = np.arange(first, first + WORDS, dtype=np.uint32) * np.uint32(0x10001) + np.uint32(0x80000000)
        normal16.normal16(part, words, *space, rows, near, np.float32(1), kernels.FLOAT32)
        if not np.array_equal(part, np.concatenate([entries[low], entries[high]])):
            return False
        normal16.nearly16(part, words, *space, rows, near)
        if (np.abs(part[:WORDS].view(np.int32) - magnitudes[low]) > NEAR).any():
            return False
    return True


def _fingerprint(bits: Bits, start: int) -> int:
    bits = bits.view()
    bits.flags.writeable = False  # one type for numba, and so one compilation
    return int(kernels.fingerprint(bits, np.uint64(start)))
