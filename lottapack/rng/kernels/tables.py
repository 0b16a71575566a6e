"""Kernels of all tables, in numba's subset of Python: words, look-ups and fingerprints.

Profiling showed (two cores of Zen 5, numba 0.68; decisions 0014, 0021 and 0028 have the figures):

- Philox is limited by its chain of multiplications, so counters run side by side in 64-bit lanes: masked to 32 bits,
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

_THREE_AT_ONCE = processor().has("avx512f")
"""Whether one instruction combines three vectors: each round then takes its keys without a further one."""
_ARM64 = processor().is_arm64
_TOGETHER = GROUP if processor().has("avx512f") else 16 if processor().has("avx2") else 8
"""The counters whose states are held in registers side by side."""

_space = space(WORDS)


def philox(v: Vectors, c0: Any, high: Any, s0: Any, s1: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """Return the four words of each counter, in the lower halves of 64-bit lanes.

    ``c0``: the lower halves of the counters, a vector; the upper halves of its lanes do not matter. The others are
    scalars, the same for all lanes. For processors that multiply every other lane of 32 bits.
    """
    b, word = v.builder, ir.IntType(64)
    wide = ir.VectorType(word, v.lanes)
    low32, upper = v.every(0xFFFFFFFF, wide), v.every(32, wide)
    c1, c2, c3 = v.spread(high), v.spread(s0), v.spread(s1)
    for number in range(ROUNDS):  # only the lower halves of c0 to c3 matter
        p0, p1 = (b.mul(v.every(m, wide), b.and_(c, low32)) for m, c in zip(MULTIPLIERS, (c0, c2), strict=True))
        after0, after1 = (b.and_(b.add(k, word(w)), word(0xFFFFFFFF)) for k, w in zip((k0, k1), WEYL, strict=True))
        if _THREE_AT_ONCE:
            c1, c3 = b.xor(c1, v.spread(k0)), b.xor(c3, v.spread(k1))
        elif number % 2 == 0:  # the lower halves meet the next round's keys
            p1 = b.xor(p1, v.spread(b.or_(b.shl(k0, word(32)), after0)))
            p0 = b.xor(p0, v.spread(b.or_(b.shl(k1, word(32)), after1)))
        c0, c1, c2, c3 = b.xor(b.lshr(p1, upper), c1), p1, b.xor(b.lshr(p0, upper), c3), p0
        k0, k1 = after0, after1
    return c0, c1, c2, c3


def philox_narrow(v: Vectors, c0: Any, high: Any, s0: Any, s1: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """Return the four words of each counter, in lanes of 32 bits. Arguments: as in philox(), ``c0`` in such lanes.

    For NEON: of four lanes, two multiplications and two permutations give the lower and the upper halves of products.
    """
    b, number = v.builder, ir.IntType(32)
    pair, wide = ir.VectorType(number, 2), ir.VectorType(ir.IntType(64), 2)

    def every(scalar: Any) -> Any:
        return v.spread(b.trunc(scalar, number))

    def order(*lanes: int) -> Any:
        return ir.Constant(ir.VectorType(number, len(lanes)), list(lanes))

    def multiplied(multiplier: int, c: Any) -> tuple[Any, Any]:
        factor, low, high = ir.Constant(pair, [number(multiplier)] * 2), [], []
        for at in range(0, v.lanes, 4):
            halves = (b.shuffle_vector(c, c, order(first, first + 1)) for first in (at, at + 2))
            name = "llvm.aarch64.neon.umull.v2i64"
            products = [v.call(name, [pair, pair], half, factor, result=wide) for half in halves]
            products = [b.bitcast(product, ir.VectorType(number, 4)) for product in products]
            low.append(b.shuffle_vector(*products, order(0, 2, 4, 6)))
            high.append(b.shuffle_vector(*products, order(1, 3, 5, 7)))
        return v.joined(low), v.joined(high)

    c1, c2, c3 = every(high), every(s0), every(s1)
    for _round in range(ROUNDS):
        (low0, high0), (low1, high1) = (multiplied(m, c) for m, c in zip(MULTIPLIERS, (c0, c2), strict=True))
        c0, c1, c2, c3 = b.xor(b.xor(high1, c1), every(k0)), low1, b.xor(b.xor(high0, c3), every(k1)), low0
        k0, k1 = (b.add(k, ir.IntType(64)(w)) for k, w in zip((k0, k1), WEYL, strict=True))
    return c0, c1, c2, c3


def halves(builder: Any, vector: Any) -> list[Any]:
    """Return the first and the second half of a vector's lanes."""
    half, kind = vector.type.count // 2, ir.VectorType(ir.IntType(32), vector.type.count // 2)
    orders = [ir.Constant(kind, list(range(at, at + half))) for at in (0, half)]
    return [builder.shuffle_vector(vector, vector, order) for order in orders]


def narrowed(v: Vectors, even: Any, odd: Any) -> Any:
    """Return the lower halves of the 64-bit lanes of two vectors, in turns. ``v``: as many lanes as each has."""
    b, wide = v.builder, ir.VectorType(ir.IntType(64), v.lanes)
    both = b.or_(b.and_(even, v.every(0xFFFFFFFF, wide)), b.shl(odd, v.every(32, wide)))
    return b.bitcast(both, ir.VectorType(ir.IntType(32), 2 * v.lanes))


def _group(places: list[int]) -> Any:
    """Return the intrinsic that fills the words of GROUP counters from ``low + first`` on.

    It writes ``out[256 * lane + first + 0 .. GROUP - 1]``, each counter's word at its index in ``places``.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def group(_: Any, out: Any, first: Any, low: Any, high: Any, s0: Any, s1: Any, k0: Any, k1: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            half, word, number = _TOGETHER // 2, ir.IntType(64), ir.IntType(32)
            v, few = (Vectors(context, b, signature, arguments, lanes) for lanes in (_TOGETHER, half))
            wide = ir.VectorType(word, _TOGETHER)
            _, first, low, high, s0, s1, k0, k1 = arguments
            for begin in range(0, GROUP, _TOGETHER):
                counters = [places.index(place) for place in range(begin, begin + _TOGETHER)]
                if _ARM64:
                    c0 = b.add(v.spread(b.trunc(b.add(low, first), number)), ir.Constant(v.u32, counters))
                    found = list(philox_narrow(v, c0, high, s0, s1, k0, k1))
                else:
                    c0 = b.add(v.spread(b.add(low, first)), ir.Constant(wide, counters[::2] + counters[1::2]))
                    found = [narrowed(few, *halves(b, words)) for words in philox(v, c0, high, s0, s1, k0, k1)]
                for lane, words in enumerate(found):
                    v.store(0, b.add(first, word(COUNTERS * lane + begin)), words)
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
def _look_up_block(out: Any, words: Any, table: Any, bits: Any) -> None:
    """Look up all elements of one block."""
    if bits == u64(16):
        _look_up_parts(out, words.view(np.uint16), table, u64(2))
    elif bits == u64(8) and _ARM64:  # elsewhere this takes longer than two or four elements a store
        _look_up_parts(out, words.view(np.uint8), table, u64(4))
    else:
        _look_up_fields(out.view(u64), words.view(u64), table, bits, u64(8 // out.itemsize))


@jit
def _look_up_parts(out: Any, parts: Any, table: Any, count: Any) -> None:
    """Look up the elements of one block by indices that are halves or bytes of words: ``count`` parts of a word."""
    line = u64(64 // out.itemsize)
    for part in range(u64(0), count):
        begin = part * _WORDS
        for first in range(u64(0), _WORDS, line):
            prefetch(out, begin + first + _WORDS)
            for i in range(first, first + line):
                out[begin + i] = table[parts[count * i + part]]


@jit
def _look_up_fields(out: Any, words: Any, table: Any, bits: Any, pair: Any) -> None:
    """Look up the elements of one block by shorter indices. ``out``, ``words``: as uint64.

    ``pair``: elements in 64 bits, 2 or 4.
    """
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
    words = _space(u32)
    end = skip + u64(out.size)
    place = u64(0)  # the index of the block's first element, counted from the first block's first one
    served = _WORDS * (_32 // bits)
    while place < end:
        generate_words(words, block, k0, k1, s0, s1)
        if bits > u64(1) and unit == 0 and place >= skip and place + served <= end:
            _look_up_block(out[place - skip : place - skip + served], words, table, bits)
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
            _look_up_block(part, words, table, bits)
        else:
            _fill_part(part, words, table, bits, unit, form, u64(0), u64(0))
        total += fingerprint(part[: min(served, count - place)], block * served)
        block += u64(1)
    return total
