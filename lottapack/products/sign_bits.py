"""The signs of ``sign1`` weights as bits: those of a block of the stream, element after element.

The stream has *words*: bit f of word j is that of element ``1024 f + j`` of a block. Kernels of products take *bits*:
that of element e is bit ``e % 32`` of number ``e // 32``, so that rows lie one behind the other.

Turning 32 words of 32 bits in registers takes 0.02 operations a weight (AVX-512); asking each word for each of its bits
takes six times as many.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lottapack.rng.kernels.compiler import jit, space
from lottapack.rng.kernels.machine import processor
from lottapack.rng.kernels.vectors import Vectors
from lottapack.rng.kernels.words import halves, narrowed, philox, philox_narrow
from lottapack.rng.stream import COUNTERS, WORDS

u32, u64 = np.uint32, np.uint64

LANES: Final = 16
WIDTH: Final = 32
"""Bits of a number."""
AVX512: Final = processor().has("avx512f")
NEON: Final = processor().is_arm64
AT_ONCE: Final = 8 if AVX512 else 1 if NEON else 2
"""The words, of each lane, that are generated together: what registers hold."""

TURNED: Final = 16 if AVX512 else 8
"""The lanes whose bits are turned together, which registers hold eight vectors of."""
_ACROSS = COUNTERS // WIDTH

_WORDS, _WIDTH, _AT_ONCE = u64(WORDS), u64(WIDTH), u64(AT_ONCE)
_space = space(WORDS)


@intrinsic  # type: ignore[untyped-decorator]
def _words_across(_: Any, words: Any, k: Any, low: Any, high: Any, s0: Any, s1: Any, k0: Any, k1: Any) -> Any:
    """Write words k to k + AT_ONCE - 1 of each 32 of a block: word ``32 l + k`` goes to ``words[32 k + place of l]``.

    ``low``, ``high``: of the block's first counter. The place of l is l. With AVX-512, places are as _bits_of() takes
    them: halves of 16, in which lanes l and l + 8 are neighbours, because two words of 64 bits become one by a shift.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        _, k, low, high, s0, s1, k0, k1 = arguments
        sizes = AT_ONCE * _ACROSS, _ACROSS, _ACROSS // 2
        v, few, half = (Vectors(context, b, signature, arguments, lanes) for lanes in sizes)
        order = [0, 1, 2, 3, 4, 5, 6, 7] if AVX512 or NEON else [0, 2, 4, 6, 1, 3, 5, 7]  # as narrowed() joins them
        kind = v.u32 if NEON else ir.VectorType(ir.IntType(64), v.lanes)
        offsets = ir.Constant(kind, [one + WIDTH * lane for one in range(AT_ONCE) for lane in order])
        first = b.add(low, k)
        c0 = b.add(v.spread(b.trunc(first, ir.IntType(32)) if NEON else first), offsets)
        found = (philox_narrow if NEON else philox)(v, c0, high, s0, s1, k0, k1)
        for one in range(AT_ONCE):
            lanes = ir.Constant(few.u32, list(range(one * _ACROSS, one * _ACROSS + _ACROSS)))
            parts = [b.shuffle_vector(words, words, lanes) for words in found]
            if AVX512:
                parts = [narrowed(few, *parts[at : at + 2]) for at in (0, 2)]
            elif not NEON:
                parts = [narrowed(half, *halves(b, part)) for part in parts]
            at = b.mul(b.add(k, ir.IntType(64)(one)), ir.IntType(64)(WIDTH))
            for n, part in enumerate(parts):
                v.store(0, b.add(at, ir.IntType(64)(n * part.type.count)), part)
        return context.get_dummy_value()

    return types.void(words, k, low, high, s0, s1, k0, k1), generate


def turned(v: Vectors, rows: list[Any]) -> list[Any]:
    """Return 32 vectors: in each lane, bit i of vector n is bit n of vector i of ``rows``.

    Four vectors, and later eight, are exchanged as often as they can be before the next: so few are in use at a time.
    """
    rows = list(rows)
    fours: list[tuple[tuple[int, ...], range]] = [((16, 8), range(n, WIDTH, 8)) for n in range(8)]
    eights: list[tuple[tuple[int, ...], range]] = [((4, 2, 1), range(n, n + 8)) for n in range(0, WIDTH, 8)]
    for sizes, group in fours + eights:
        for size in sizes:
            for n in (n for n in group if not n & size):
                rows[n], rows[n + size] = _exchanged(v, size, rows[n], rows[n + size])
    return rows


def _exchanged(v: Vectors, size: int, low: Any, high: Any) -> list[Any]:
    """Exchange the odd parts, of ``size`` bits, of one vector and the even ones of another."""
    b = v.builder
    bits = sum(1 << n for n in range(WIDTH) if not n & size)
    mask, others, by = (v.every(value, v.u32) for value in (bits, ~bits & 0xFFFFFFFF, size))
    if NEON and size >= 8:
        return [_in_turns(v, size, low, high, order) for order in (lambda part: part - part % 2, lambda part: part | 1)]
    if NEON and size == 4:  # it inserts a shifted vector into another one by one instruction
        kind = ir.VectorType(ir.IntType(8), 4 * v.lanes)
        low, high = b.bitcast(low, kind), b.bitcast(high, kind)
        four, keep, others = (ir.Constant(kind, [value] * kind.count) for value in (4, 0x0F, 0xF0))
        pairs = b.or_(b.and_(low, keep), b.shl(high, four)), b.or_(b.and_(high, others), b.lshr(low, four))
        return [b.bitcast(one, v.u32) for one in pairs]
    up, down = b.shl(high, by), b.lshr(low, by)
    pairs = (low, up), (down, high)
    if AVX512:
        return [v.logic(lambda m, one, other: one if m else other, mask, *pair) for pair in pairs]
    if NEON:  # it selects bits by one instruction
        return [b.or_(b.and_(mask, one), b.and_(others, other)) for one, other in pairs]
    if size >= 8:
        return [_in_turns(v, size, *pair, lambda part: part) for pair in pairs]
    change = b.and_(b.xor(down, high), mask)
    return [b.xor(low, b.shl(change, by)), b.xor(high, change)]


def _in_turns(v: Vectors, size: int, one: Any, other: Any, order: Callable[[int], int]) -> Any:
    """Return a vector whose part n, of ``size`` bits, is part ``order(n)`` of ``one``, or of ``other`` if n is odd."""
    b, count = v.builder, v.lanes * WIDTH // size
    kind = ir.VectorType(ir.IntType(size), count)
    places = ir.Constant(ir.VectorType(ir.IntType(32), count), [order(n) + n % 2 * count for n in range(count)])
    return b.bitcast(b.shuffle_vector(b.bitcast(one, kind), b.bitcast(other, kind), places), v.u32)


@intrinsic  # type: ignore[untyped-decorator]
def _bits_of(_: Any, words: Any, bits: Any, at: Any) -> Any:
    """Write the bits of a block to ``bits[at:at + 1024]``, from words in the order of _words_across()."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v, word = Vectors(context, b, signature, arguments, TURNED), ir.IntType(64)
        order = ir.Constant(v.u32, [lane % 8 * 2 + lane // 8 if AVX512 else lane for lane in range(TURNED)])
        for first in range(0, WIDTH, TURNED):
            given = [v.load(0, word(WIDTH * k + first), v.u32) for k in range(WIDTH)]
            for field, vector in enumerate(turned(v, given)):
                place = b.add(arguments[2], word(WIDTH * field + first))
                v.store(1, place, b.shuffle_vector(vector, vector, order))
        return context.get_dummy_value()

    return types.void(words, bits, at), generate


@jit
def block_bits(bits: Any, at: Any, words: Any, block: Any, k0: Any, k1: Any, s0: Any, s1: Any) -> None:
    """Write the bits of a block of the stream to ``bits[at:at + 1024]``. ``words``: working space, shape (1024,)."""
    first = block * u64(COUNTERS)
    for k in range(u64(0), _WIDTH, _AT_ONCE):
        _words_across(words, k, first & u64(0xFFFFFFFF), first >> u64(32), s0, s1, k0, k1)
    _bits_of(words, bits, at)


@jit
def signs(bits: Any, block: Any, k0: Any, k1: Any, s0: Any, s1: Any) -> None:
    """Write the bits of whole blocks of the stream, from ``block`` on. ``bits``: shape (1024 n,), uint32."""
    words = _space(u32)
    for at in range(u64(0), u64(bits.size), _WORDS):
        block_bits(bits, at, words, block, k0, k1, s0, s1)
        block += u64(1)
