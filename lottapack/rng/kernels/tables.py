"""Kernels of all tables, in numba's subset of Python: words, look-ups and fingerprints.

Profiling showed (two cores of Zen 5, numba 0.68; decisions 0014, 0021 and 0028 have the figures):

- Philox is limited by its chain of multiplications, so 32 counters run side by side in 64-bit lanes: masked to 32 bits,
  a product is one ``vpmuludq``, and a shift gives its upper half. Explicit vectors (``_group``) do not depend on how
  LLVM vectorises a loop. One more shift combines two lanes, where narrowing them would take permutations.
- A look-up in the 256 KB table of ``normal16`` fetches a line of the L2 cache, which is all that a core can fetch in
  that time. Where 32 numbers fit two vector registers (AVX-512), a formula gives the same bits (``normal16.py``).
- On other processors, look-ups store several entries at once and prefetch the output's next lines. Every other loop
  that writes prefetches too, because it would otherwise wait for each line.
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
from lottapack.rng.kernels.declared import FORMS, GROUP
from lottapack.rng.kernels.machine import processor
from lottapack.rng.kernels.vectors import Vectors
from lottapack.rng.stream import COUNTERS, MULTIPLIERS, ROUNDS, WEYL, WORDS

u32, u64, i32, f32 = np.uint32, np.uint64, np.int32, np.float32

_RUN, _AHEAD = u64(256), u64(512)
"""The number of elements written at a time, and how far ahead their cache lines are prefetched."""

_LOW32 = u64(0xFFFFFFFF)
_32 = u64(32)
_COUNTERS, _WORDS, _GROUP = u64(COUNTERS), u64(WORDS), u64(GROUP)
FLOAT32, BFLOAT16 = u64(FORMS["float32"]), u64(FORMS["bfloat16"])

_space = space(WORDS)


def philox(v: Vectors, c0: Any, high: Any, s0: Any, s1: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """Return the four words of each counter, in the lower halves of 64-bit lanes.

    ``c0``: the lower halves of the counters, a vector; the upper halves of its lanes do not matter. The others are
    scalars, the same for all lanes.
    """
    b, word = v.builder, ir.IntType(64)
    wide = ir.VectorType(word, v.lanes)
    low32, upper = v.every(0xFFFFFFFF, wide), v.every(32, wide)
    c1, c2, c3 = v.spread(high), v.spread(s0), v.spread(s1)
    for _round in range(ROUNDS):  # only the lower halves of c0 to c3 matter
        p0, p1 = (b.mul(v.every(m, wide), b.and_(c, low32)) for m, c in zip(MULTIPLIERS, (c0, c2), strict=True))
        c0 = b.xor(b.xor(b.lshr(p1, upper), c1), v.spread(k0))
        c2 = b.xor(b.xor(b.lshr(p0, upper), c3), v.spread(k1))
        c1, c3 = p1, p0
        k0, k1 = (b.and_(b.add(k, word(w)), word(0xFFFFFFFF)) for k, w in zip((k0, k1), WEYL, strict=True))
    return c0, c1, c2, c3


def _group(places: list[int]) -> Any:
    """Return the intrinsic that fills the words of GROUP counters from ``low + first`` on.

    It writes ``out[256 * lane + first + 0 .. GROUP - 1]``, each counter's word at its index in ``places``.
    """
    half = GROUP // 2
    counters = [
        places.index(place) for place in (*range(0, GROUP, 2), *range(1, GROUP, 2))
    ]  # in the order of the lanes

    @intrinsic  # type: ignore[untyped-decorator]
    def group(_: Any, out: Any, first: Any, low: Any, high: Any, s0: Any, s1: Any, k0: Any, k1: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            v, few = (Vectors(context, b, signature, arguments, lanes) for lanes in (GROUP, half))
            word, number = ir.IntType(64), ir.IntType(32)
            wide, narrow = ir.VectorType(word, GROUP), ir.VectorType(word, half)
            _, first, low, high, s0, s1, k0, k1 = arguments
            c0 = b.add(v.spread(b.add(low, first)), ir.Constant(wide, counters))
            for lane, words in enumerate(philox(v, c0, high, s0, s1, k0, k1)):
                even, odd = (
                    b.shuffle_vector(words, words, ir.Constant(ir.VectorType(number, half), list(range(at, at + half))))
                    for at in (0, half)
                )
                both = b.or_(b.and_(even, few.every(0xFFFFFFFF, narrow)), b.shl(odd, few.every(32, narrow)))
                v.store(0, b.add(first, word(COUNTERS * lane)), b.bitcast(both, v.u32))
            return context.get_dummy_value()

        return types.void(out, first, low, high, s0, s1, k0, k1), generate

    return group


_in_order = _group(list(range(GROUP)))
_in_pairs = _group([counter // 2 + counter % 2 * (GROUP // 2) for counter in range(GROUP)])


@jit
def generate_words(out: Any, block: Any, k0: Any, k1: Any, s0: Any, s1: Any) -> None:
    """Fill ``out``, shape (1024,), uint32, with the words of ``block`` (spec: stream, sections 1 to 3)."""
    first = block * _COUNTERS  # the low half of the counter cannot overflow within a block
    for t in range(u64(0), _COUNTERS, _GROUP):
        _in_order(out, t, first & _LOW32, first >> _32, s0, s1, k0, k1)


@jit
def generate_pairs(out: Any, block: Any, k0: Any, k1: Any, s0: Any, s1: Any) -> None:
    """Like generate_words(), but of each 32 words, those with an even index come first, then those with an odd one."""
    first = block * _COUNTERS
    for t in range(u64(0), _COUNTERS, _GROUP):
        _in_pairs(out, t, first & _LOW32, first >> _32, s0, s1, k0, k1)


@jit
def copy(out: Any, given: Any) -> None:
    """Copy an array that does not overlap. A slice assignment would check for overlap and allocate memory by numba."""
    for i in range(out.size):
        out[i] = given[i]


@jit
def _look_up(out: Any, words: Any, table: Any, shift: Any, mask: Any) -> None:
    for i in range(out.size):
        out[i] = table[(words[i] >> shift) & mask]


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(_: Any, array: Any, index: Any) -> Any:
    """Prefetch the cache line of ``array[index]`` for writing; an index past the end is harmless."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        Vectors(context, builder, signature, arguments, 1).prefetch(0, arguments[1])
        return context.get_dummy_value()

    return types.void(array, index), generate


@jit
def _look_up_block(out: Any, words: Any, table: Any, bits: Any, pair: Any) -> None:
    """Look up all elements of one block. ``out``, ``words``: as uint64; ``pair``: elements in 64 bits, 2 or 4."""
    mask, run, begin = (u64(1) << bits) - u64(1), _WORDS // pair, u64(0)
    for shift in range(u64(0), _32, bits):
        for line in range(u64(0), run, u64(8)):
            prefetch(out, begin + line + run)
            for i in range(line, line + u64(8)):
                if pair == u64(2):
                    word = words[i] >> shift
                    out[begin + i] = u64(table[word & mask]) | (u64(table[(word >> _32) & mask]) << _32)
                else:
                    one, two = words[u64(2) * i] >> shift, words[u64(2) * i + u64(1)] >> shift
                    low = u64(table[one & mask]) | (u64(table[(one >> _32) & mask]) << u64(16))
                    high = u64(table[two & mask]) | (u64(table[(two >> _32) & mask]) << u64(16))
                    out[begin + i] = low | (high << _32)
        begin += run


@jit
def _select(out: Any, words: Any, table: Any, shift: Any) -> None:
    """Choose between two entries by one bit, without a look-up."""
    zero, change = u32(table[0]), u32(table[0] ^ table[1])
    for i in range(out.size):
        out[i] = zero ^ (change * ((words[i] >> shift) & u32(1)))


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


_to_float16 = _converted if processor().has("f16c") else _rounded


@jit
def _uniform(out: Any, words: Any, unit: Any, form: Any, shift: Any) -> None:
    """Compute ``uniform16``: (2 n - 65535) * unit, with unit = scale / 65536, rounds once like table[n] * scale."""
    for i in range(out.size):
        twice = i32(((words[i] >> shift) & u32(0xFFFF)) << u32(1))
        value = f32(f32(twice - i32(65535)) * unit)
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
    words = _space(u32)
    end = skip + u64(out.size)
    place = u64(0)  # the index of the block's first element, counted from the first block's first one
    served = _WORDS * (_32 // bits)
    while place < end:
        generate_words(words, block, k0, k1, s0, s1)
        if bits > u64(1) and unit == 0 and place >= skip and place + served <= end:
            run = out[place - skip : place - skip + served].view(u64)
            _look_up_block(run, words.view(u64), table, bits, u64(8 // out.itemsize))
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
    words = _space(u32)
    served, total = _WORDS * (_32 // bits), u64(0)
    for place in range(u64(0), count, served):
        generate_words(words, block, k0, k1, s0, s1)
        if bits > u64(1) and unit == 0:
            _look_up_block(part.view(u64), words.view(u64), table, bits, u64(8 // part.itemsize))
        else:
            _fill_part(part, words, table, bits, unit, form, u64(0), u64(0))
        total += fingerprint(part[: min(served, count - place)], block * served)
        block += u64(1)
    return total
