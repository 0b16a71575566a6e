"""The sums of a part: four elements of an input have 16 sums under all signs, which are made once and looked up.

A register of AVX2 holds half a table, which is enough: the sums under opposite signs are opposite (decision 0064). Two
registers of NEON hold one half of each entry (decision 0083).

Lessons of the profile (Zen 5): a permutation and an addition go side by side in one and a half of four units each, so a
vector of 64 terms takes two thirds of a cycle. Sixteen sums in registers, four inputs by four vectors of rows, hide
their latency, and a table that was loaded serves four vectors.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lottapack.products.sign_bits import AVX512, LANES, NEON, WIDTH
from lottapack.rng.kernels.compiler import jit
from lottapack.rng.kernels.machine import processor
from lottapack.rng.kernels.vectors import Vectors, order

u64, f32 = np.uint64, np.float32

_HALVES = not AVX512 and processor().has("avx2") and processor().has("fma")
"""Whether half a table in registers serves: the sums under opposite signs are opposite."""
SHAPES: Final = {4: 6, 2: 8, 1: 16} if AVX512 else {2: 1, 1: 1} if NEON else {4: 1, 2: 2, 1: 2}
"""Vectors of rows that are summed side by side, by the inputs that are: what registers hold."""

_LANES, _WIDTH = u64(LANES), u64(WIDTH)


@intrinsic  # type: ignore[untyped-decorator]
def _tabulate(_: Any, terms: Any, start: Any, count: Any, tables: Any, at: Any, apart: Any) -> Any:
    """Write the 16 sums of each of ``count`` fours of ``terms[start:]``, to ``tables[at + g * apart:]``.

    Bit i of an entry's number is the sign of t_i: 1 is plus.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v, word = Vectors(context, b, signature, arguments, LANES), ir.IntType(64)
        _, start, count, _, at, apart = arguments
        with cgutils.for_range(b, count) as loop:
            signed = []
            for n in range(4):
                place = v.pointer(
                    0,
                    b.add(b.add(start, b.mul(loop.index, word(4))), word(n)),
                    ir.IntType(32),
                )
                flip = ir.Constant(v.u32, [0 if lane >> n & 1 else 0x80000000 for lane in range(LANES)])
                signed.append(b.bitcast(b.xor(v.spread(b.load(place)), flip), v.f32))
            sums = b.fadd(b.fadd(signed[0], signed[1]), b.fadd(signed[2], signed[3]))
            if NEON:  # the lower halves of the entries, then the upper ones
                parts = b.bitcast(sums, ir.VectorType(ir.IntType(16), 2 * LANES))
                sums = b.shuffle_vector(parts, parts, order((*range(0, 2 * LANES, 2), *range(1, 2 * LANES, 2))))
                sums = b.bitcast(sums, v.f32)
            v.store(3, b.add(at, b.mul(loop.index, apart)), sums)
        return context.get_dummy_value()

    return types.void(terms, start, count, tables, at, apart), generate


def _look_up(v: Vectors, argument: int, place: Any) -> Callable[[Any], Any]:
    """Return a function from numbers, by their lowest four bits, to the entries of the table at ``tables[place:]``."""
    b, number = v.builder, ir.IntType(32)
    if AVX512:
        table = v.load(argument, place, v.f32)
        return lambda index: v.call("llvm.x86.avx512.permvar.sf.512", [v.f32, v.u32], table, index)
    if NEON:
        return _look_up_parts(v, argument, place)
    if _HALVES:
        short = ir.VectorType(ir.FloatType(), 8)
        half = v.load(argument, place, short)

        def look_up_half(index: Any) -> Any:
            parts = [
                b.shuffle_vector(index, index, ir.Constant(ir.VectorType(number, 8), list(range(at, at + 8))))
                for at in (0, 8)
            ]
            found = [v.call("llvm.x86.avx2.permps", [short, parts[0].type], half, part) for part in parts]
            return v.joined(found)

        return look_up_half

    def look_up_one_by_one(index: Any) -> Any:
        index = b.and_(index, v.every(15, v.u32))
        found = ir.Constant(v.f32, ir.Undefined)
        for lane in range(LANES):
            entry = b.zext(b.extract_element(index, number(lane)), ir.IntType(64))
            value = b.load(v.pointer(argument, b.add(place, entry), ir.FloatType()))
            found = b.insert_element(found, value, number(lane))
        return found

    return look_up_one_by_one


def _places(v: Vectors, begin: Any, group: int) -> list[Any]:
    """Return where the two bytes of half an entry are, for the first eight of 16 lanes and for the others.

    ``begin``: of the lanes, as sign_lanes.py writes them for NEON.
    """
    b, kind = v.builder, ir.VectorType(ir.IntType(8), LANES)
    eight = v.load(0, b.add(begin, ir.IntType(64)(group // 2 * LANES // 4)), kind)
    shift, by = (b.lshr, 3) if group % 2 else (b.shl, 1)
    first = b.and_(shift(eight, ir.Constant(kind, [by] * LANES)), ir.Constant(kind, [30] * LANES))
    second = b.or_(first, ir.Constant(kind, [1] * LANES))
    return [b.shuffle_vector(first, second, _alternating(LANES, at)) for at in (0, LANES // 2)]


def _look_up_parts(v: Vectors, argument: int, place: Any) -> Callable[[Any], Any]:
    """Return a function from _places() to entries for NEON, which looks bytes up in two registers.

    Those hold one half of each entry; see _tabulate().
    """
    b, register, half = v.builder, ir.VectorType(ir.IntType(8), 16), ir.VectorType(ir.IntType(16), 8)
    table = [v.load(argument, b.add(place, ir.IntType(64)(at)), register) for at in (0, 4, 8, 12)]

    def look_up(places: list[Any]) -> Any:
        parts = []
        for chosen in places:
            found = [
                b.bitcast(v.call("llvm.aarch64.neon.tbl2.v16i8", [register] * 3, *halves, chosen), half)
                for halves in (table[:2], table[2:])
            ]
            joined = (b.shuffle_vector(*found, _alternating(8, at)) for at in (0, 4))
            parts += [b.bitcast(part, ir.VectorType(ir.FloatType(), 4)) for part in joined]
        return v.joined(parts)

    return look_up


def _alternating(lanes: int, at: int) -> Any:
    """Return the order that takes half the ``lanes`` of each of two vectors in turns, from lane ``at`` on."""
    return order(at + n // 2 + n % 2 * lanes for n in range(lanes))


def _half_indices(v: Vectors, indices: Any) -> Any:
    """Turn each four bits, the number n of a table's entry, to the number of one of its first eight, and a sign.

    The entries n and 15 - n are opposite. So three bits become those of 15 - n where the fourth, then the sign, is set.
    """
    b = v.builder
    upper = b.and_(b.lshr(indices, v.every(3, v.u32)), v.every(0x11111111, v.u32))
    return b.xor(indices, b.sub(b.shl(upper, v.every(3, v.u32)), upper))


def _sign_of(v: Vectors, index: Any) -> Any:
    """Return 1.0 or -1.0 by the sign in the lowest four bits of ``index``."""
    b = v.builder
    sign = b.and_(b.shl(index, v.every(28, v.u32)), v.every(0x80000000, v.u32))
    return b.bitcast(b.or_(sign, v.every(0x3F800000, v.u32)), v.f32)


def _blended_sign(v: Vectors, index: Any) -> Any:
    """Return the same by one selection of AVX2, which is faster for one and two inputs, and slower for four."""
    b, kind = v.builder, ir.VectorType(ir.FloatType(), 8)
    top = b.bitcast(b.shl(index, v.every(28, v.u32)), v.f32)
    one, other = (ir.Constant(kind, [ir.Constant(kind.element, value)] * 8) for value in (1.0, -1.0))
    parts = []
    for at in range(0, LANES, 8):
        half = b.shuffle_vector(top, top, ir.Constant(ir.VectorType(ir.IntType(32), 8), list(range(at, at + 8))))
        parts.append(v.call("llvm.x86.avx.blendv.ps.256", [kind] * 3, one, other, half))
    return v.joined(parts)


def _added(v: Vectors, total: Any, entry: Any, sign: Any) -> Any:
    """Add an entry, or the half table's entry with its sign: a product with 1.0 or -1.0 is not rounded."""
    return v.builder.fadd(total, entry) if sign is None else v.fma(entry, sign, total)


def _summing(inputs: int, vectors: int) -> Any:
    """Return an intrinsic that sums a part for this many inputs and vectors of outputs.

    ``lanes[at + r * apart:]``: the bits of vector r, ``count`` vectors of them. ``there``: how many vectors r there
    are; the last stands for those that are not. ``tables``: of each four of terms, a table for each input.
    Sums go to ``out[first + i * step + 16 r:]``, and if
    ``add`` are added to what is there.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def summed(
        _: Any,
        lanes: Any,
        at: Any,
        apart: Any,
        there: Any,
        count: Any,
        tables: Any,
        out: Any,
        first: Any,
        step: Any,
        add: Any,
    ) -> Any:
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            v, word = Vectors(context, b, signature, arguments, LANES), ir.IntType(64)
            _, at, apart, there, count, _, _, to, step, add = arguments
            totals = [
                [cgutils.alloca_once_value(b, v.every(0.0, v.f32)) for _ in range(inputs)] for _ in range(vectors)
            ]
            last = b.sub(there, word(1))
            begins = [
                b.add(
                    at,
                    b.mul(
                        apart,
                        b.select(b.icmp_unsigned("<", word(r), last), word(r), last),
                    ),
                )
                for r in range(vectors)
            ]
            four = v.every(4, v.u32)
            sign_of = _sign_of if inputs == max(SHAPES) else _blended_sign
            with cgutils.for_range(b, count) as loop:
                place = b.mul(loop.index, word(LANES))
                here = [b.add(begin, place) for begin in begins]
                indices = [] if NEON else [v.load(0, begin, v.u32) for begin in here]
                if _HALVES:
                    indices = [_half_indices(v, index) for index in indices]
                table = b.mul(loop.index, word(WIDTH // 4 * inputs * LANES))
                for group in range(WIDTH // 4):
                    if NEON:
                        keys = [(_places(v, begin, group), None) for begin in here]
                    else:
                        keys = [(index, sign_of(v, index) if _HALVES else None) for index in indices]
                    for i in range(inputs):
                        look_up = _look_up(v, 5, b.add(table, word((group * inputs + i) * LANES)))
                        for (index, sign), ways in zip(keys, totals, strict=True):
                            b.store(_added(v, b.load(ways[i]), look_up(index), sign), ways[i])
                    indices = [b.lshr(index, four) for index in indices]
            places = [
                [b.add(to, b.add(b.mul(step, word(i)), word(LANES * r))) for i in range(inputs)] for r in range(vectors)
            ]
            with b.if_then(add):
                for ways, row in zip(totals, places, strict=True):
                    for total, place in zip(ways, row, strict=True):
                        b.store(b.fadd(v.load(6, place, v.f32), b.load(total)), total)
            for ways, row in zip(totals, places, strict=True):
                for total, place in zip(ways, row, strict=True):
                    v.store(6, place, b.load(total))
            return context.get_dummy_value()

        return types.void(lanes, at, apart, there, count, tables, out, first, step, add), generate

    return summed


_MOST = u64(max(SHAPES))
_summed4, _summed2, _summed1 = (_summing(n, SHAPES[n]) for n in (max(SHAPES), 2, 1))
_BY4, _BY2, _BY1 = (u64(SHAPES[n]) for n in (max(SHAPES), 2, 1))


@jit
def tables_of(tables: Any, near: Any, x: Any, inputs: Any, start: Any, stride: Any, terms: Any) -> None:
    """Write the tables of ``terms`` terms of this many inputs, the first of which begins at ``x[start]``."""
    whole = terms // _WIDTH * _WIDTH
    for i in range(inputs):
        begin, at = start + i * stride, i * _LANES
        _tabulate(x, begin, whole // u64(4), tables, at, inputs * _LANES)
        if whole < terms:
            for n in range(_WIDTH):
                near[n] = x[begin + whole + n] if whole + n < terms else f32(0)
            _tabulate(
                near,
                u64(0),
                _WIDTH // u64(4),
                tables,
                at + whole // u64(4) * inputs * _LANES,
                inputs * _LANES,
            )


@jit
def part(
    out: Any,
    width: Any,
    begin: Any,
    end: Any,
    lanes: Any,
    apart: Any,
    terms: Any,
    tables: Any,
    sums: Any,
    i: Any,
    inputs: Any,
    fresh: Any,
) -> None:
    """Add a part to rows ``i`` to ``i + inputs - 1`` of ``out``, of ``width``; or write it, if ``fresh``.

    Of their columns ``begin`` to ``end - 1``, whose lanes lie vector after vector.
    """
    vectors, r = (end - begin + _LANES - u64(1)) // _LANES, u64(0)
    count = (terms + _WIDTH - u64(1)) // _WIDTH
    by = _BY4 if inputs == u64(4) else (_BY2 if inputs == u64(2) else _BY1)
    while r < vectors:
        there, first = vectors - r, begin + r * _LANES
        whole = first + by * _LANES <= end
        to, place, step = (out, i * width + first, width) if whole else (sums, u64(0), by * _LANES)
        keep = whole and not fresh
        if inputs == u64(4):
            _summed4(lanes, r * apart, apart, there, count, tables, to, place, step, keep)
        elif inputs == u64(2):
            _summed2(lanes, r * apart, apart, there, count, tables, to, place, step, keep)
        else:
            _summed1(lanes, r * apart, apart, there, count, tables, to, place, step, keep)
        if not whole:
            for j in range(inputs):
                for n in range(end - first):
                    at, total = (i + j) * width + first + n, sums[j * step + n]
                    out[at] = total if fresh else f32(out[at] + total)
        r += by


@jit
def taken(left: Any) -> Any:
    """Return how many of the remaining inputs are summed together."""
    return _MOST if left >= _MOST else (u64(2) if left >= u64(2) else u64(1))
