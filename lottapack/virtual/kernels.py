"""The numba kernel of products with ``sign1`` weights that are made in registers.

A block of 1,024 words serves 32,768 weights, so making words costs little beside using them. A weight is the sign of
one term: the word's bit is shifted to the place of the sign and flips it there, and scale is multiplied once, at the
end.

The order of summation is fixed, whatever the number of threads and the width of the processor's vectors. A row is cut
where the number of an element of the tensor is a multiple of 1,024. In each part, lane l of 64 adds elements l, l + 64,
l + 128, ... in this order; the lanes are folded by halves (lane l and lane l + 32, then l and l + 16, ...); parts are
added in order, and their sum is multiplied by scale.

Lessons of the profile (Zen 5): where words lie across cache lines a product takes twice as long, so they are aligned.
Four accumulators hide the latency of an addition.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lottapack.rng.kernel_cache import jit
from lottapack.rng.kernels import generate_words
from lottapack.rng.stream import WORDS
from lottapack.rng.vectors import Vectors

u32, u64 = np.uint32, np.uint64

LANES = 16
WAYS = 4
"""Vectors of LANES that are summed side by side."""

_WORDS, _SERVED, _LINE = u64(WORDS), u64(32 * WORDS), u64(64)


@intrinsic  # type: ignore[untyped-decorator]
def _signed_sum(_: Any, x: Any, at: Any, words: Any, first: Any, count: Any, shift: Any) -> Any:
    """The sum of ``x[at:at + count]``, each with the sign of bit ``shift`` of ``words[first:]``: 1 is plus."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, b, signature, arguments, LANES)
        _, at, _, first, count, shift = arguments
        number, half = ir.IntType(64), ir.IntType(32)
        left = v.spread(b.trunc(b.sub(number(31), shift), half))
        sums = [cgutils.alloca_once_value(b, v.every(0.0, v.f32)) for _ in range(WAYS)]

        def add(way: int, terms: Any, words: Any) -> None:
            flip = b.and_(b.not_(b.shl(words, left)), v.every(0x80000000, v.u32))
            signed = b.bitcast(b.xor(v.bits(terms), flip), v.f32)
            b.store(b.fadd(b.load(sums[way]), signed), sums[way])

        whole = b.udiv(count, number(LANES * WAYS))
        with cgutils.for_range(b, whole) as loop:
            for way in range(WAYS):
                place = b.add(b.mul(loop.index, number(LANES * WAYS)), number(LANES * way))
                add(way, v.load(0, b.add(at, place), v.f32), v.load(2, b.add(first, place), v.u32))
        begun = b.mul(whole, number(LANES * WAYS))
        with b.if_then(b.icmp_unsigned("<", begun, count)):  # lanes past the end add a zero
            for way in range(WAYS):
                place = b.add(begun, number(LANES * way))
                lane = b.add(v.spread(place), ir.Constant(ir.VectorType(number, LANES), list(range(LANES))))
                within = b.icmp_unsigned("<", lane, v.spread(count))
                terms = v.load_some(0, b.add(at, place), v.f32, within)
                add(way, terms, v.load_some(2, b.add(first, place), v.u32, within))
        lanes = [b.load(one) for one in sums]
        while len(lanes) > 1:
            lanes = [b.fadd(*pair) for pair in zip(lanes, lanes[len(lanes) // 2 :], strict=False)]
        return v.folded(lanes[0])

    return types.float32(x, at, words, first, count, shift), generate


@jit
def product(out: Any, x: Any, begin: Any, end: Any, scale: Any, k0: Any, k1: Any, s0: Any, s1: Any) -> None:
    """Rows ``begin`` to ``end - 1`` of W times each row of ``x``: ``out[:, begin:end]``, in the order stated above.

    ``x``: shape (n, d_in), float32. ``out``: shape (n, d_out), float32. ``scale``: float32. The others: uint64.
    """
    space = np.empty(WORDS + 16, u32)
    free = (_LINE - (u64(space.ctypes.data) & (_LINE - u64(1)))) & (_LINE - u64(1))
    words = space[free // u64(4) :][:WORDS]
    n, d_in = u64(x.shape[0]), u64(x.shape[1])
    out[:, begin:end] = 0
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
                out[i, row] += _signed_sum(x[i], column, words, word, count, field)
            element += count
            column += count
            if column == d_in:
                row, column = row + u64(1), u64(0)
    for i in range(n):
        for j in range(begin, end):
            out[i, j] *= scale
