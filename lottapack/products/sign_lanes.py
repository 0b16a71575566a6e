"""The signs of ``sign1`` weights as lanes: vectors of 16 numbers, each with the bits of 32 terms of one output.

The next vector has the next terms of the same outputs. Terms are the columns of a matrix, or its rows if transposed.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lottapack.products.layout import BLOCK
from lottapack.products.sign_bits import LANES, TURNED, WIDTH, block_bits, turned
from lottapack.rng.kernels.compiler import jit
from lottapack.rng.kernels.vectors import Vectors

u64 = np.uint64

_LANES, _WIDTH, _BLOCK = u64(LANES), u64(WIDTH), u64(BLOCK)


def _row(v: Vectors, argument: int, first: Any) -> Any:
    """Return bits of an array of 32-bit numbers, from bit ``first`` on: one more number is read than those hold."""
    b, word = v.builder, ir.IntType(64)
    place = b.lshr(first, word(5))
    low, high = (
        v.load(argument, place, v.u32),
        v.load(argument, b.add(place, word(1)), v.u32),
    )
    by = v.spread(b.trunc(b.and_(first, word(31)), ir.IntType(32)))
    return v.call(f"llvm.fshr.v{v.lanes}i32", [v.u32] * 3, high, low, by)


@intrinsic  # type: ignore[untyped-decorator]
def _rows_to_lanes(_: Any, bits: Any, first: Any, stride: Any, rows: Any, lanes: Any, at: Any) -> Any:
    """Write 512 bits of each of 16 rows to 16 vectors, ``lanes[at:]``, whose lane l is of row l.

    ``first``: the first row's first bit. ``stride``: bits from row to row. ``rows``: how many there are: the last one
    stands for those that are not.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v, word = Vectors(context, b, signature, arguments, LANES), ir.IntType(64)
        _, first, stride, rows, _, at = arguments
        last = b.sub(rows, word(1))
        found = []
        for lane in range(LANES):
            inside = b.icmp_unsigned("<", word(lane), last)
            found.append(
                _row(
                    v,
                    0,
                    b.add(first, b.mul(stride, b.select(inside, word(lane), last))),
                )
            )
        size = LANES // 2
        while size:
            low = ir.Constant(v.u32, [n + LANES - size if n & size else n for n in range(LANES)])
            high = ir.Constant(v.u32, [n + LANES if n & size else n + size for n in range(LANES)])
            for n in (n for n in range(LANES) if not n & size):
                pair = found[n], found[n + size]
                found[n], found[n + size] = (
                    b.shuffle_vector(*pair, low),
                    b.shuffle_vector(*pair, high),
                )
            size //= 2
        for n, vector in enumerate(found):
            v.store(4, b.add(at, word(n * LANES)), vector)
        return context.get_dummy_value()

    return types.void(bits, first, stride, rows, lanes, at), generate


@intrinsic  # type: ignore[untyped-decorator]
def columns_to_lanes(_: Any, bits: Any, first: Any, stride: Any, lanes: Any, at: Any, apart: Any) -> Any:
    """Write 512 bits of each of 32 rows to ``lanes[at + n * apart:]``, whose lane l is of column ``32 l + n``."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v, word = Vectors(context, b, signature, arguments, TURNED), ir.IntType(64)
        _, first, stride, _, at, apart = arguments
        for lane in range(0, LANES, TURNED):
            begins = [b.add(first, b.add(b.mul(stride, word(n)), word(WIDTH * lane))) for n in range(WIDTH)]
            for n, vector in enumerate(turned(v, [_row(v, 0, begin) for begin in begins])):
                v.store(3, b.add(at, b.add(b.mul(apart, word(n)), word(lane))), vector)
        return context.get_dummy_value()

    return types.void(bits, first, stride, lanes, at, apart), generate


@jit
def lanes_of_rows(
    lanes: Any,
    bits: Any,
    words: Any,
    d_in: Any,
    top: Any,
    bottom: Any,
    apart: Any,
    k0: Any,
    k1: Any,
    s0: Any,
    s1: Any,
) -> None:
    """Write the lanes of rows ``top`` to ``bottom - 1``. ``bits``: working space, layout.bits_around()."""
    begin = top * d_in // _BLOCK * _BLOCK  # elements whose bits are there: begin to done - 1
    done = begin
    for row in range(top, bottom, _LANES):
        rows = min(_LANES, bottom - row)
        first, last = row * d_in, (row + rows) * d_in
        keep = first // _BLOCK * _BLOCK
        if keep > begin:  # what is behind stays, at the front
            for n in range((done - keep) // _WIDTH if done > keep else u64(0)):
                bits[n] = bits[n + (keep - begin) // _WIDTH]
            begin, done = keep, max(done, keep)
        while done < last:
            block_bits(bits, (done - begin) // _WIDTH, words, done // _BLOCK, k0, k1, s0, s1)
            done += _BLOCK
        for number in range(u64(0), (d_in + _WIDTH - u64(1)) // _WIDTH, _LANES):
            at = (row - top) // _LANES * apart + number * _LANES
            _rows_to_lanes(bits, first - begin + number * _WIDTH, d_in, rows, lanes, at)
