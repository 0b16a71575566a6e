"""Kernels of all tables, in numba's subset of Python: elements and fingerprints.

Profiling showed (two cores of Zen 5, numba 0.68; decisions 0014, 0021 and 0028 have the figures):

- A look-up in the 256 KB table of ``normal16`` fetches a line of the L2 cache, which is all that a core can fetch in
  that time. Where 32 numbers fit two vector registers (AVX-512), a formula gives the same bits (``normal16.py``).
- On other processors, look-ups store several entries at once and prefetch the output's next lines, while vector units
  generate the next block's words (``look_ups.py``). Every other loop that writes prefetches too, because it would
  otherwise wait for each line.
- These were not faster: half a table by symmetry; looking up half of the elements while computing the others;
  streaming stores (half as fast).
- Where the value follows from the index by exact arithmetic, no look-up is needed, and the loop is vectorised.
- The fingerprint of elements that are not kept is taken block by block, in the L1 cache.

All scalars have one unsigned type, because numba turns a signed and an unsigned integer into a float.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lottapack.rng.kernels.compiler import jit, space
from lottapack.rng.kernels.declared import FORMS
from lottapack.rng.kernels.look_ups import look_up_and_generate, look_up_block, prefetch
from lottapack.rng.kernels.machine import processor
from lottapack.rng.kernels.words import generate_words
from lottapack.rng.stream import WORDS

u32, u64, i32, f32 = np.uint32, np.uint64, np.int32, np.float32

_RUN, _AHEAD = u64(256), u64(512)
"""The number of elements written at a time, and how far ahead their cache lines are prefetched."""

_32, _WORDS = u64(32), u64(WORDS)
FLOAT32, BFLOAT16 = u64(FORMS["float32"]), u64(FORMS["bfloat16"])
_ARM64 = processor().is_arm64

_two_blocks = space(2 * WORDS)


@jit
def copy(out: Any, given: Any) -> None:
    """Copy an array that does not overlap. A slice assignment would check for overlap and allocate memory by numba."""
    for i in range(out.size):
        out[i] = given[i]


@jit
def _look_up(out: Any, words: Any, table: Any, shift: Any, mask: Any) -> None:
    for i in range(out.size):
        out[i] = table[(words[i] >> shift) & mask]


def _shift(left: bool) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def shift(_: Any, __: Any, ___: Any) -> Any:
        """Shift a number by fewer than 32 bits. numba would do so in 64 bits, and LLVM in lanes twice as wide."""

        def generate(_: Any, b: Any, __: Any, arguments: Any) -> Any:
            return (b.shl if left else b.lshr)(*arguments)

        return types.uint32(types.uint32, types.uint32), generate

    return shift


_up, _down = _shift(True), _shift(False)


@jit
def _select(out: Any, words: Any, table: Any, shift: Any) -> None:
    """Choose between two entries by one bit, without a look-up."""
    zero, one = table[0], table[1]
    if _ARM64:  # which tests a bit of each lane; others choose by the uppermost bit
        bit = _up(u32(1), shift)
        for i in range(out.size):
            out[i] = one if words[i] & bit else zero
    else:
        to_top = u32(31) - shift
        for i in range(out.size):
            out[i] = one if i32(_up(words[i], to_top)) < i32(0) else zero


@intrinsic  # type: ignore[untyped-decorator]
def _converted(_: Any, __: Any) -> Any:
    """Return the bits of a number as float16, rounded by the processor's own instruction."""

    def generate(_: Any, b: Any, __: Any, arguments: Any) -> Any:
        return b.zext(b.bitcast(b.fptrunc(arguments[0], ir.HalfType()), ir.IntType(16)), ir.IntType(32))

    return types.uint32(types.float32), generate


@jit
def _rounded(value: Any) -> Any:
    """Return the same bits by integers."""
    bits = f32(value).view(u32)
    size = u32(bits & u32(0x7FFFFFFF))
    up = u32(u32(size >> u32(13)) & u32(1))
    normal = u32(u32(size + up) - u32((112 << 23) - 0xFFF)) >> u32(13)
    # The last place of 0.5 is the unit of subnormals.
    small = u32(f32(size.view(f32) + f32(0.5)).view(u32) - u32(0x3F000000))
    sign = u32(u32(bits >> u32(16)) & u32(0x8000))
    return u32(small if size < u32(113 << 23) else u32(normal)) | sign


_to_float16 = _converted if processor().has("f16c") or _ARM64 else _rounded


@jit
def _uniform(out: Any, words: Any, unit: Any, form: Any, shift: Any) -> None:
    """Compute ``uniform16``: (2 n - 65535) * unit, with unit = scale / 65536, rounds once like table[n] * scale."""
    for i in range(out.size):
        number = f32(i32(_down(words[i], shift) & u32(0xFFFF)))
        value = f32(f32(number + number - f32(65535)) * unit)  # exact up to the multiplication
        bits = value.view(u32)
        if form == FLOAT32:
            out[i] = bits
        elif form == BFLOAT16:
            out[i] = u32(bits + u32(u32(0x7FFF) + u32(u32(bits >> u32(16)) & u32(1)))) >> u32(16)
        else:
            out[i] = _to_float16(value)


@jit
def fill(
    out: Any, block: Any, skip: Any, table: Any, bits: Any, unit: Any, form: Any, k0: Any, k1: Any, s0: Any, s1: Any
) -> None:
    """Fill ``out`` with elements from index ``skip`` on, counted from the first one that ``block`` serves.

    ``out``: shape (n,), uint32 or uint16. ``table``: scaled bits, shape (2**bits,), the type of ``out``.
    ``unit``: float32, above 0 for ``uniform16`` only. ``form``: one of FORMS. All other numbers are uint64.
    Spec: stream, section 4.
    """
    work = _two_blocks(u32)
    words, following = work[:_WORDS], work[_WORDS:]
    end = skip + u64(out.size)
    place = u64(0)  # the index of the block's first element, counted from the first block's first one
    served = _WORDS * (_32 // bits)
    generated = False
    while place < end:
        if not generated:
            generate_words(words, block, k0, k1, s0, s1)
        whole = bits > u64(1) and unit == 0 and place >= skip and place + served <= end
        generated = whole and place + served < end
        if generated:
            part = out[place - skip : place - skip + served]
            look_up_and_generate(part, words, table, bits, following, block + u64(1), k0, k1, s0, s1)
            words, following = following, words
        elif whole:
            look_up_block(out[place - skip : place - skip + served], words, table, bits)
        else:
            _fill_part(out, words, table, bits, unit, form, place, skip)
        block += u64(1)
        place += served


@jit
def _fill_part(out: Any, words: Any, table: Any, bits: Any, unit: Any, form: Any, place: Any, skip: Any) -> None:
    """Fill those elements of one block that lie in ``out``; the block's first element has index ``place``."""
    end, mask = skip + u64(out.size), u32((u64(1) << bits) - u64(1))
    for shift in range(u64(0), _32, bits):
        for first in range(place, place + _WORDS, _RUN):
            lo, hi = max(first, skip), min(first + _RUN, end)
            if lo < hi:
                for line in range(u64(0), _RUN, u64(64 // out.itemsize)):
                    prefetch(out, lo - skip + _AHEAD + line)
                run, used = out[lo - skip : hi - skip], words[lo - place : hi - place]
                if bits == u64(1):
                    _select(run, used, table, u32(shift))
                elif unit > 0:
                    _uniform(run, used, unit, form, u32(shift))
                else:
                    _look_up(run, used, table, u32(shift), mask)
        place += _WORDS


@jit
def fingerprint(bits: Any, start: Any) -> Any:
    """Return the fingerprint of ``bits``, shape (n,), uint32 or uint16; ``start`` (uint64) is its first index."""
    total, step = u64(0), u64(0x9E3779B97F4A7C15)
    number = start * step
    for i in range(bits.size):
        z = u64(bits[i]) ^ number
        z = (z ^ (z >> u64(30))) * u64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> u64(27))) * u64(0x94D049BB133111EB)
        total += z ^ (z >> u64(31))
        number += step
    return total


@jit
def fingerprint_blocks(
    part: Any, count: Any, block: Any, table: Any, bits: Any, unit: Any, form: Any, k0: Any, k1: Any, s0: Any, s1: Any
) -> Any:
    """Return the fingerprint of the ``count`` elements from the first of ``block`` on, without keeping them.

    ``part``: working space for the elements of one block, of the type of ``table``. The others are as for fill().
    """
    work = _two_blocks(u32)
    words, following = work[:_WORDS], work[_WORDS:]
    served, total = _WORDS * (_32 // bits), u64(0)
    generated = False
    for place in range(u64(0), count, served):
        if not generated:
            generate_words(words, block, k0, k1, s0, s1)
        looked_up = bits > u64(1) and unit == 0
        generated = looked_up and place + served < count
        if generated:
            look_up_and_generate(part, words, table, bits, following, block + u64(1), k0, k1, s0, s1)
            words, following = following, words
        elif looked_up:
            look_up_block(part, words, table, bits)
        else:
            _fill_part(part, words, table, bits, unit, form, u64(0), u64(0))
        total += fingerprint(part[: min(served, count - place)], block * served)
        block += u64(1)
    return total
