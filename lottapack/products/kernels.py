"""The kernels of products with ``sign1`` weights that are generated in registers.

A block of 1,024 words serves 32,768 weights, so generating the words costs little compared with using them. A weight is
the sign of one term: the word's bit is shifted to the sign's position and flips it there. The scale is multiplied once,
at the end.

The order of summation does not depend on the number of threads or the width of the processor's vectors. A row is cut
wherever an element's index in the tensor is a multiple of 1,024. In each part, lane l of 64 adds elements l, l + 64,
l + 128, ... in this order; the lanes are folded by halves (lane l and lane l + 32, then l and l + 16, ...); parts are
added in order, and their sum is multiplied by the scale.

Profiling showed (Zen 5): a product takes twice as long if words cross cache lines, so they are aligned. Four
accumulators hide the latency of an addition. Eight inputs of 4,096 elements take twice as long if they are read a row
at a time, because a first-level cache holds three of them. With one or two inputs, the loops for more inputs would cost
a tenth.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lottapack.rng.kernels.compiler import jit, space
from lottapack.rng.kernels.tables import generate_words
from lottapack.rng.kernels.vectors import Vectors
from lottapack.rng.stream import WORDS

u32, u64 = np.uint32, np.uint64

LANES = 16
WAYS = 4
"""The number of vectors of LANES that are summed side by side."""
TOGETHER = 4
"""The inputs whose terms get their signs together: their sums fill half of 32 registers."""
NEAR = 8
"""The inputs whose parts of 1,024 elements fit a first-level cache together, beside the words."""

_WORDS, _SERVED = u64(WORDS), u64(32 * WORDS)
_space = space(WORDS)


def _signed_sums(inputs: int) -> Any:
    """Return an intrinsic that applies the same signs to several inputs, so that the signs are computed once.

    For each input it returns the sum of ``x[at:at + count]``, where the next input follows after ``stride`` elements.
    Each element gets the sign of bit ``shift`` of ``words[first:]``: 1 is plus.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, b, signature, arguments, LANES)
        _, at, stride, _, first, count, shift = arguments
        number, half = ir.IntType(64), ir.IntType(32)
        left = v.spread(b.trunc(b.sub(number(31), shift), half))
        begins = [b.add(at, b.mul(stride, number(one))) for one in range(inputs)]
        sums = [[cgutils.alloca_once_value(b, v.every(0.0, v.f32)) for _ in range(WAYS)] for _ in begins]

        def add(way: int, words: Any, terms: Callable[[Any], Any]) -> None:
            flip = b.and_(b.not_(b.shl(words, left)), v.every(0x80000000, v.u32))
            for begin, ways in zip(begins, sums, strict=True):
                signed = b.bitcast(b.xor(v.bits(terms(begin)), flip), v.f32)
                b.store(b.fadd(b.load(ways[way]), signed), ways[way])

        whole = b.udiv(count, number(LANES * WAYS))
        with cgutils.for_range(b, whole) as loop:
            for way in range(WAYS):
                place = b.add(b.mul(loop.index, number(LANES * WAYS)), number(LANES * way))
                words = v.load(3, b.add(first, place), v.u32)
                add(way, words, lambda begin, place=place: v.load(0, b.add(begin, place), v.f32))  # type: ignore[misc]
        begun = b.mul(whole, number(LANES * WAYS))
        with b.if_then(b.icmp_unsigned("<", begun, count)):  # lanes past the end add zero
            for way in range(WAYS):
                place = b.add(begun, number(LANES * way))
                lane = b.add(v.spread(place), ir.Constant(ir.VectorType(number, LANES), list(range(LANES))))
                within = b.icmp_unsigned("<", lane, v.spread(count))
                words = v.load_some(3, b.add(first, place), v.u32, within)
                add(
                    way,
                    words,
                    lambda begin, place=place, within=within: v.load_some(0, b.add(begin, place), v.f32, within),  # type: ignore[misc]
                )
        found = []
        for ways in sums:
            lanes = [b.load(one) for one in ways]
            while len(lanes) > 1:
                lanes = [b.fadd(*pair) for pair in zip(lanes, lanes[len(lanes) // 2 :], strict=False)]
            found.append(v.folded(lanes[0]))
        return context.make_tuple(b, signature.return_type, found)

    def signed_sums(_: Any, x: Any, at: Any, stride: Any, words: Any, first: Any, count: Any, shift: Any) -> Any:
        return types.UniTuple(types.float32, inputs)(x, at, stride, words, first, count, shift), generate

    return intrinsic(signed_sums)


_one, _several = _signed_sums(1), _signed_sums(TOGETHER)


@jit
def _clear(out: Any, begin: Any, end: Any) -> None:
    for i in range(u64(0), u64(out.shape[0])):
        for row in range(begin, end):
            out[i, row] = 0


@jit
def _scale(out: Any, begin: Any, end: Any, scale: Any) -> None:
    for i in range(u64(0), u64(out.shape[0])):
        for row in range(begin, end):
            out[i, row] *= scale


@jit
def product(out: Any, x: Any, d_in: Any, begin: Any, end: Any, scale: Any, k0: Any, k1: Any, s0: Any, s1: Any) -> None:
    """Multiply rows ``begin`` to ``end - 1`` of W by each row of ``x``: ``out[:, begin:end]``, in the order above.

    ``x``: n rows of ``d_in``, one after another, float32. ``out``: shape (n, d_out), float32. ``scale``: float32. The
    other arguments: uint64. For one or two inputs; products() does the same for more.
    """
    words = _space(u32)
    n = u64(out.shape[0])
    _clear(out, begin, end)
    element, stop = begin * d_in, end * d_in
    block = element // _SERVED
    row, column = begin, u64(0)
    while element < stop:
        generate_words(words, block, k0, k1, s0, s1)
        block += u64(1)
        served = min(block * _SERVED, stop)
        while element < served:
            word, field = element & (_WORDS - u64(1)), (element // _WORDS) & u64(31)
            count = min(_WORDS - word, d_in - column)
            for i in range(n):
                out[i, row] += _one(x, i * d_in + column, d_in, words, word, count, field)[0]
            element += count
            column += count
            if column == d_in:
                row, column = row + u64(1), u64(0)
    _scale(out, begin, end, scale)


@jit
def products(out: Any, x: Any, d_in: Any, begin: Any, end: Any, scale: Any, k0: Any, k1: Any, s0: Any, s1: Any) -> None:
    """Compute the same bits as product(), with the signs of several inputs computed together.

    If rows consist of whole parts, the same part of all rows of a block is taken in turn, so that its inputs stay in
    the cache.
    """
    words = _space(u32)
    n = u64(out.shape[0])
    _clear(out, begin, end)
    element, stop = begin * d_in, end * d_in
    turns = d_in // _WORDS if d_in % _WORDS == u64(0) and d_in <= _SERVED else u64(1)
    while element < stop:
        block = element // _SERVED
        generate_words(words, block, k0, k1, s0, s1)
        served = min((block + u64(1)) * _SERVED, stop)
        for first in range(u64(0), n, u64(NEAR)):
            last = min(first + u64(NEAR), n)
            for turn in range(turns):
                at = element
                if turns > u64(1):
                    at += (turn * _WORDS + d_in - element % d_in) % d_in
                row = at // d_in
                column = at - row * d_in
                while at < served:
                    word, field = at & (_WORDS - u64(1)), (at // _WORDS) & u64(31)
                    count = min(_WORDS - word, d_in - column)
                    i: Any = first
                    while i + u64(TOGETHER) <= last:
                        sums = _several(x, i * d_in + column, d_in, words, word, count, field)
                        for j in range(TOGETHER):
                            out[i + u64(j), row] += sums[j]
                        i += u64(TOGETHER)
                    while i < last:
                        out[i, row] += _one(x, i * d_in + column, d_in, words, word, count, field)[0]
                        i += u64(1)
                    if turns > u64(1):
                        at, row = at + d_in, row + u64(1)
                        continue
                    at, column = at + count, column + count
                    if column == d_in:
                        row, column = row + u64(1), u64(0)
        element = served
    _scale(out, begin, end, scale)
