"""The words of the stream: Philox4x32-10 in vectors (spec: stream, sections 1 to 3).

Philox is limited by its chain of multiplications, so counters run side by side in 64-bit lanes: masked to 32 bits, a
product is one ``vpmuludq``, and a shift gives its upper half. Explicit vectors (``_group``) do not depend on how LLVM
vectorises a loop. One more shift combines two lanes, where narrowing them would take permutations.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lottapack.rng.kernels.compiler import jit
from lottapack.rng.kernels.declared import GROUP
from lottapack.rng.kernels.machine import processor
from lottapack.rng.kernels.vectors import Vectors
from lottapack.rng.stream import COUNTERS, MULTIPLIERS, ROUNDS, WEYL

u64 = np.uint64

_LOW32, _32 = u64(0xFFFFFFFF), u64(32)
_COUNTERS, _GROUP = u64(COUNTERS), u64(GROUP)

_THREE_AT_ONCE = processor().has("avx512f")
"""Whether one instruction combines three vectors: each round then takes its keys without a further one."""
_ARM64 = processor().is_arm64
TOGETHER: Final = GROUP if processor().has("avx512f") else 16 if processor().has("avx2") else 8
"""The counters whose states are held in registers side by side."""


def philox(
    v: Vectors,
    c0: Any,
    high: Any,
    s0: Any,
    s1: Any,
    k0: Any,
    k1: Any,
    *,
    between: Callable[[int, Any, Any], tuple[Any, Any]] = lambda _, *kept: kept,
) -> tuple[Any, Any, Any, Any]:
    """Return the four words of each counter, in the lower halves of 64-bit lanes.

    ``c0``: the lower halves of the counters, a vector; the upper halves of its lanes do not matter. The others are
    scalars, the same for all lanes. ``between``: called after each round with its number and the next factors, which
    it returns. For processors that multiply every other lane of 32 bits.
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
        c0, c2 = between(number, c0, c2)
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
            half, word, number = TOGETHER // 2, ir.IntType(64), ir.IntType(32)
            v, few = (Vectors(context, b, signature, arguments, lanes) for lanes in (TOGETHER, half))
            wide = ir.VectorType(word, TOGETHER)
            _, first, low, high, s0, s1, k0, k1 = arguments
            for begin in range(0, GROUP, TOGETHER):
                counters = [places.index(place) for place in range(begin, begin + TOGETHER)]
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
