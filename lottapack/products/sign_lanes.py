"""The signs of ``sign1`` weights as lanes: vectors of 16 numbers, each with the bits of 32 terms of one output.

The next vector has the next terms of the same outputs. Terms are the columns of a matrix, or its rows if transposed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lottapack.products.layout import BLOCK
from lottapack.products.sign_bits import LANES, NEON, TURNED, WIDTH, block_bits, turned
from lottapack.rng.kernels.compiler import jit
from lottapack.rng.kernels.vectors import Vectors, order

u64 = np.uint64

_LANES, _WIDTH, _BLOCK = u64(LANES), u64(WIDTH), u64(BLOCK)


def _store(v: Vectors, argument: int, place: Any, lane: int, vector: Any) -> None:
    """Write lanes, from lane ``lane`` on, of the 16 numbers at ``place``.

    For NEON, which looks bytes up, the first bytes of the 16 numbers come first, then the second ones, and so on.
    """
    b, word, count = v.builder, ir.IntType(64), vector.type.count
    if not NEON:
        v.store(argument, b.add(place, word(lane)), vector)
        return

    def parted(bytes_: Any) -> list[Any]:
        return [b.shuffle_vector(bytes_, bytes_, order(range(first, bytes_.type.count, 2))) for first in (0, 1)]

    even, odd = parted(b.bitcast(vector, ir.VectorType(ir.IntType(8), 4 * count)))
    (first, third), (second, fourth) = parted(even), parted(odd)
    for byte, plane in enumerate((first, second, third, fourth)):
        v.store(argument, b.add(place, word((byte * LANES + lane) // 4)), plane)


def _row(v: Vectors, argument: int, first: Any, number: int = 0, whole: bool = False) -> Any:
    """Return bits of an array of 32-bit numbers, from bit ``first`` of number ``number`` on.

    One more number is read than those hold, except where ``whole`` says that ``first`` is the first bit of a number.
    """
    b, word = v.builder, ir.IntType(64)
    place = b.add(b.lshr(first, word(5)), word(number))
    low = v.load(argument, place, v.u32)
    if whole:
        return low
    high = v.load(argument, b.add(place, word(1)), v.u32)
    by = v.spread(b.trunc(b.and_(first, word(31)), ir.IntType(32)))
    return v.call(f"llvm.fshr.v{v.lanes}i32", [v.u32] * 3, high, low, by)


def _for_rows(builder: Any, first: Any, stride: Any, write: Callable[[bool], None]) -> None:
    """Call ``write`` for rows ``stride`` bits apart, whose first begins with bit ``first``.

    Its argument is that of _row(). NEON gets both forms, because it takes some instructions to shift a vector.
    """
    if not NEON:
        write(False)
        return
    word = ir.IntType(64)
    whole = builder.icmp_unsigned("==", builder.and_(builder.or_(first, stride), word(31)), word(0))
    with builder.if_else(whole) as (then, otherwise):
        with then:
            write(True)
        with otherwise:
            write(False)


def _transposed(v: Vectors, rows: list[Any]) -> list[Any]:
    """Return as many vectors as each of ``rows`` has lanes: vector n has lane n of each of them."""
    b, found, size = v.builder, list(rows), len(rows) // 2
    while size:
        low = order(n + v.lanes - size if n & size else n for n in range(v.lanes))
        high = order(n + v.lanes if n & size else n + size for n in range(v.lanes))
        for n in (n for n in range(len(rows)) if not n & size):
            pair = found[n], found[n + size]
            found[n], found[n + size] = b.shuffle_vector(*pair, low), b.shuffle_vector(*pair, high)
        size //= 2
    return found


@intrinsic  # type: ignore[untyped-decorator]
def _rows_to_lanes(_: Any, bits: Any, first: Any, stride: Any, rows: Any, lanes: Any, at: Any) -> Any:
    """Write 512 bits of each of 16 rows to 16 vectors, ``lanes[at:]``, whose lane l is of row l.

    ``first``: the first row's first bit. ``stride``: bits from row to row. ``rows``: how many there are: the last one
    stands for those that are not.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        word, size = ir.IntType(64), 4 if NEON else LANES  # the numbers of each row that registers hold
        v = Vectors(context, b, signature, arguments, size)
        _, first, stride, rows, _, at = arguments
        last = b.sub(rows, word(1))
        begins = []
        for lane in range(LANES):
            inside = b.icmp_unsigned("<", word(lane), last)
            begins.append(b.add(first, b.mul(stride, b.select(inside, word(lane), last))))

        def write(whole: bool) -> None:
            for number in range(0, LANES, size):
                found = [_row(v, 0, begin, number, whole) for begin in begins]
                parts = [_transposed(v, found[lane : lane + size]) for lane in range(0, LANES, size)]
                for n in range(size):
                    _store(v, 4, b.add(at, word((number + n) * LANES)), 0, v.joined([part[n] for part in parts]))

        _for_rows(b, first, stride, write)
        return context.get_dummy_value()

    return types.void(bits, first, stride, rows, lanes, at), generate


@intrinsic  # type: ignore[untyped-decorator]
def columns_to_lanes(_: Any, bits: Any, first: Any, stride: Any, lanes: Any, at: Any, apart: Any) -> Any:
    """Write 512 bits of each of 32 rows to ``lanes[at + n * apart:]``, whose lane l is of column ``32 l + n``."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v, word = Vectors(context, b, signature, arguments, TURNED), ir.IntType(64)
        _, first, stride, _, at, apart = arguments
        begins = [b.add(first, b.mul(stride, word(n))) for n in range(WIDTH)]

        def write(whole: bool) -> None:
            for lane in range(0, LANES, TURNED):
                for n, vector in enumerate(turned(v, [_row(v, 0, begin, lane, whole) for begin in begins])):
                    _store(v, 3, b.add(at, b.mul(apart, word(n))), lane, vector)

        _for_rows(b, first, stride, write)
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
