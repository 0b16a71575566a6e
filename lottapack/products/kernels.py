"""The kernels of products with ``sign1`` weights, which are bits: they look sums up instead of multiplying.

Four elements of an input have 16 sums under all signs. They are made once, and then serve every row of the matrix: four
bits of a row choose one of 16 numbers, which is one permutation of a vector register, for 16 rows at once. That and an
addition take the place of 64 multiplications, and nothing is rounded that a sum in binary32 would not round.

The order of summation is fixed, whatever the number of inputs and threads and the width of the processor's vectors.
The terms of an output, in the order of the matrix's columns (of its rows, if transposed), are taken four at a time as
``(t0 + t1) + (t2 + t3)``; the sums of 128 fours are added in order to a first zero, which makes a part; the parts
are added in order, and their sum is multiplied by scale. Terms past the end are zeros.

Registers of AVX2 hold half a table, which is enough: the sums under opposite signs are opposite (decision 0064).

Three layouts of the signs lead there:

- *words* as the stream has them: bit f of word j is that of element ``1024 f + j`` of a block;
- *bits*: that of element e is bit ``e % 32`` of number ``e // 32``, so that rows lie one behind the other;
- *lanes*: in a vector of 16 numbers, each has the bits of 32 terms of one output; the next vector has their next terms.

Lessons of the profile (Zen 5): a permutation and an addition go side by side in one and a half of four units each, so a
vector of 64 terms takes two thirds of a cycle. Sixteen sums in registers, four inputs by four vectors of rows, hide
their latency, and a table that was loaded serves four vectors. Turning 32 words of 32 bits in registers takes 0.02
operations a weight; asking each word for each of its bits takes six times as many.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lottapack.products.layout import BLOCK, CHUNK, SLAB, TABLES, TERMS
from lottapack.rng.kernels.compiler import jit, space
from lottapack.rng.kernels.machine import processor
from lottapack.rng.kernels.tables import philox
from lottapack.rng.kernels.vectors import Vectors
from lottapack.rng.stream import COUNTERS, WORDS

u32, u64, f32 = np.uint32, np.uint64, np.float32

LANES = 16
WIDTH: Final = 32
"""Bits of a number."""
_AVX512 = processor().has("avx512f")
_HALVES = not _AVX512 and processor().has("avx2") and processor().has("fma")
"""Whether half a table in a register of 8 numbers serves: the sums under opposite signs are opposite."""
SHAPES: Final = {4: 6, 2: 8, 1: 16} if _AVX512 else {4: 1, 2: 2, 1: 2}
"""Vectors of rows that are summed side by side, by the inputs that are: what registers hold."""

_WORDS, _LANES, _WIDTH, _BLOCK = u64(WORDS), u64(LANES), u64(WIDTH), u64(BLOCK)
_TERMS, _CHUNK, _SLAB, _TABLES = u64(TERMS), u64(CHUNK), u64(SLAB), u64(TABLES)
_PART = u64(TERMS // WIDTH)  # numbers in a part
_space, _near, _sums_space = space(WORDS), space(WIDTH), space(LANES * 24)


# Words to bits


@intrinsic  # type: ignore[untyped-decorator]
def _words_across(_: Any, words: Any, k: Any, low: Any, high: Any, s0: Any, s1: Any, k0: Any, k1: Any) -> Any:
    """Write words k to k + 3 of each 32 words of a block: word ``32 l + k`` goes to ``words[32 k + place of l]``.

    ``low``, ``high``: of the block's first counter. Places are as _bits_of() takes them: halves of 16, in which lanes
    l and l + 8 are neighbours, because two words of 64 bits become one by a shift.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        _, k, low, high, s0, s1, k0, k1 = arguments
        count, across, word = 4, COUNTERS // WIDTH, ir.IntType(64)
        v, few = (Vectors(context, b, signature, arguments, lanes) for lanes in (count * across, across))
        offsets = [one + WIDTH * lane for one in range(count) for lane in range(across)]
        c0 = b.add(
            v.spread(b.add(low, k)),
            ir.Constant(ir.VectorType(word, count * across), offsets),
        )
        narrow = ir.VectorType(word, across)
        found = philox(v, c0, high, s0, s1, k0, k1)
        for one in range(count):
            lanes = ir.Constant(
                ir.VectorType(ir.IntType(32), across),
                list(range(one * across, one * across + across)),
            )
            parts = [b.shuffle_vector(words, words, lanes) for words in found]
            for half in (0, 1):
                even, odd = parts[2 * half : 2 * half + 2]
                both = b.or_(
                    b.and_(even, few.every(0xFFFFFFFF, narrow)),
                    b.shl(odd, few.every(32, narrow)),
                )
                place = b.add(b.mul(b.add(k, word(one)), word(WIDTH)), word(LANES * half))
                few.store(0, place, b.bitcast(both, ir.VectorType(ir.IntType(32), LANES)))
        return context.get_dummy_value()

    return types.void(words, k, low, high, s0, s1, k0, k1), generate


def _turned(v: Vectors, rows: list[Any]) -> list[Any]:
    """Return 32 vectors: in each lane, bit i of vector n is bit n of vector i of ``rows``."""
    b, rows, size = v.builder, list(rows), WIDTH // 2

    def chosen(mask: Any, one: Any, other: Any) -> Any:
        if _AVX512:
            return v.logic(lambda mask, one, other: one if mask else other, mask, one, other)
        return b.or_(b.and_(mask, one), b.and_(b.not_(mask), other))

    while size:
        mask = v.every(sum(1 << n for n in range(WIDTH) if not n & size), v.u32)
        by = v.every(size, v.u32)
        for n in (n for n in range(WIDTH) if not n & size):
            low, high = rows[n], rows[n + size]
            rows[n], rows[n + size] = (
                chosen(mask, low, b.shl(high, by)),
                chosen(mask, b.lshr(low, by), high),
            )
        size //= 2
    return rows


@intrinsic  # type: ignore[untyped-decorator]
def _bits_of(_: Any, words: Any, bits: Any, at: Any) -> Any:
    """Write the bits of a block to ``bits[at:at + 1024]``, from words in the order of _words_across()."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v, word = Vectors(context, b, signature, arguments, LANES), ir.IntType(64)
        order = ir.Constant(v.u32, [lane % 8 * 2 + lane // 8 for lane in range(LANES)])
        for half in (0, 1):
            given = [v.load(0, word(WIDTH * k + LANES * half), v.u32) for k in range(WIDTH)]
            for field, vector in enumerate(_turned(v, given)):
                place = b.add(arguments[2], word(WIDTH * field + LANES * half))
                v.store(1, place, b.shuffle_vector(vector, vector, order))
        return context.get_dummy_value()

    return types.void(words, bits, at), generate


@jit
def _block_bits(bits: Any, at: Any, words: Any, block: Any, k0: Any, k1: Any, s0: Any, s1: Any) -> None:
    """Write the bits of a block of the stream to ``bits[at:at + 1024]``. ``words``: working space, shape (1024,)."""
    first = block * u64(COUNTERS)
    for k in range(u64(0), _WIDTH, u64(4)):
        _words_across(words, k, first & u64(0xFFFFFFFF), first >> u64(32), s0, s1, k0, k1)
    _bits_of(words, bits, at)


@jit
def signs(bits: Any, block: Any, k0: Any, k1: Any, s0: Any, s1: Any) -> None:
    """Write the bits of whole blocks of the stream, from ``block`` on. ``bits``: shape (1024 n,), uint32."""
    words = _space(u32)
    for at in range(u64(0), u64(bits.size), _WORDS):
        _block_bits(bits, at, words, block, k0, k1, s0, s1)
        block += u64(1)


# Bits to lanes


def _row(v: Vectors, argument: int, first: Any) -> Any:
    """Return 512 bits of an array of 32-bit numbers, from bit ``first`` on. Reads the 17 numbers that may hold them."""
    b, word = v.builder, ir.IntType(64)
    place = b.lshr(first, word(5))
    low, high = (
        v.load(argument, place, v.u32),
        v.load(argument, b.add(place, word(1)), v.u32),
    )
    by = v.spread(b.trunc(b.and_(first, word(31)), ir.IntType(32)))
    return v.call(f"llvm.fshr.v{LANES}i32", [v.u32] * 3, high, low, by)


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
def _columns_to_lanes(_: Any, bits: Any, first: Any, stride: Any, lanes: Any, at: Any, apart: Any) -> Any:
    """Write 512 bits of each of 32 rows to ``lanes[at + n * apart:]``, whose lane l is of column ``32 l + n``."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v, word = Vectors(context, b, signature, arguments, LANES), ir.IntType(64)
        _, first, stride, _, at, apart = arguments
        rows = [_row(v, 0, b.add(first, b.mul(stride, word(n)))) for n in range(WIDTH)]
        for n, vector in enumerate(_turned(v, rows)):
            v.store(3, b.add(at, b.mul(apart, word(n))), vector)
        return context.get_dummy_value()

    return types.void(bits, first, stride, lanes, at, apart), generate


# Tables and sums


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
            v.store(3, b.add(at, b.mul(loop.index, apart)), sums)
        return context.get_dummy_value()

    return types.void(terms, start, count, tables, at, apart), generate


def _look_up(v: Vectors, argument: int, place: Any) -> Callable[[Any], Any]:
    """Return a function from numbers, by their lowest four bits, to the entries of the table at ``tables[place:]``."""
    b, number = v.builder, ir.IntType(32)
    if _AVX512:
        table = v.load(argument, place, v.f32)
        return lambda index: v.call("llvm.x86.avx512.permvar.sf.512", [v.f32, v.u32], table, index)
    if _HALVES:
        short = ir.VectorType(ir.FloatType(), 8)
        half = v.load(argument, place, short)

        def look_up_half(index: Any) -> Any:
            parts = [
                b.shuffle_vector(index, index, ir.Constant(ir.VectorType(number, 8), list(range(at, at + 8))))
                for at in (0, 8)
            ]
            found = [v.call("llvm.x86.avx2.permps", [short, parts[0].type], half, part) for part in parts]
            return b.shuffle_vector(*found, ir.Constant(v.u32, list(range(LANES))))

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
            with cgutils.for_range(b, count) as loop:
                place = b.mul(loop.index, word(LANES))
                indices = [v.load(0, b.add(begin, place), v.u32) for begin in begins]
                if _HALVES:
                    indices = [_half_indices(v, index) for index in indices]
                table = b.mul(loop.index, word(WIDTH // 4 * inputs * LANES))
                for group in range(WIDTH // 4):
                    keys = [(index, _sign_of(v, index)) if _HALVES else (index, None) for index in indices]
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


_summed4, _summed2, _summed1 = (_summing(*shape) for shape in SHAPES.items())
_BY4, _BY2, _BY1 = (u64(vectors) for vectors in SHAPES.values())


@jit
def _tables_of(tables: Any, near: Any, x: Any, inputs: Any, start: Any, stride: Any, terms: Any) -> None:
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
def _part(
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
def _taken(left: Any) -> Any:
    """Return how many of the remaining inputs are summed together."""
    return u64(4) if left >= u64(4) else (u64(2) if left >= u64(2) else u64(1))


@jit
def product(
    out: Any,
    x: Any,
    work: Any,
    width: Any,
    held: Any,
    d_in: Any,
    begin: Any,
    end: Any,
    scale: Any,
    k0: Any,
    k1: Any,
    s0: Any,
    s1: Any,
) -> None:
    """Multiply rows ``begin`` to ``end - 1`` of W by each row of ``x``, in the order stated above.

    ``x``: n rows of ``d_in``, one behind the other, float32. ``out``: n rows of ``width``, float32. ``work``: working
    space, uint32, shape (layout.product_space(),), of which ``held`` numbers are for bits. ``scale``: float32. The
    others: uint64.
    """
    words, near, sums = _space(u32), _near(f32), _sums_space(f32)
    bits, tables, lanes = (
        work[:held],
        work[held : held + _TABLES].view(f32),
        work[held + _TABLES :],
    )
    n, numbers = u64(out.size) // width, (d_in + _WIDTH - u64(1)) // _WIDTH
    apart = (numbers + _LANES - u64(1)) // _LANES * _LANES * _LANES  # from one vector of rows to the next
    _lanes_of_rows(lanes, bits, words, d_in, begin, end, apart, k0, k1, s0, s1)
    for slab in range(u64(0), n, _SLAB):
        last = min(slab + _SLAB, n)
        for number in range(u64(0), numbers, _PART):
            terms = min(_TERMS, d_in - number * _WIDTH)
            here, i = lanes[number * _LANES :], slab
            while i < last:
                inputs = _taken(last - i)
                _tables_of(tables, near, x, inputs, i * d_in + number * _WIDTH, d_in, terms)
                _part(
                    out,
                    width,
                    begin,
                    end,
                    here,
                    apart,
                    terms,
                    tables,
                    sums,
                    i,
                    inputs,
                    number == 0,
                )
                i += inputs
    for i in range(u64(0), n):
        for row in range(i * width + begin, i * width + end):
            out[row] *= scale


@jit
def _lanes_of_rows(
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
            _block_bits(bits, (done - begin) // _WIDTH, words, done // _BLOCK, k0, k1, s0, s1)
            done += _BLOCK
        for number in range(u64(0), (d_in + _WIDTH - u64(1)) // _WIDTH, _LANES):
            at = (row - top) // _LANES * apart + number * _LANES
            _rows_to_lanes(bits, first - begin + number * _WIDTH, d_in, rows, lanes, at)


@jit
def transposed(
    out: Any,
    x: Any,
    work: Any,
    bits: Any,
    width: Any,
    stride: Any,
    skip: Any,
    rows: Any,
    d_in: Any,
    top: Any,
    bottom: Any,
    begin: Any,
    end: Any,
    fresh: Any,
) -> None:
    """Add ``x @ W``, for some rows of W, to rows ``top`` to ``bottom - 1`` and some chunks of ``out``, without scale.

    ``out``: rows of ``width``, CHUNK for each chunk there is, float32; column ``32 l + m`` of a chunk is its number
    ``16 m + l``. ``x``: rows of ``stride``, float32, from the first number that counts on. ``bits``: those of W, the
    first of which is number ``skip``, shape (layout.bits_space(),). ``rows``: of W; those of a call before the last are
    a multiple of TERMS. ``begin``, ``end``: the chunks. ``work``: working space, uint32, shape
    (layout.transposed_space(),). ``fresh``: 1 where what is in ``out`` does not count, else 0. Scalars: uint64.
    """
    near, sums = _near(f32), _sums_space(f32)
    tables, lanes = work[:_TABLES].view(f32), work[_TABLES:]
    apart = _PART * _LANES  # from the lanes of one vector of columns to the next
    for row in range(u64(0), rows, _TERMS):
        terms = min(_TERMS, rows - row)
        for chunk in range(begin, end):
            for number in range((terms + _WIDTH - u64(1)) // _WIDTH):
                first = skip + (row + number * _WIDTH) * d_in + chunk * _CHUNK
                at = (chunk - begin) * _CHUNK * _PART + number * _LANES
                _columns_to_lanes(bits, first, d_in, lanes, at, apart)
        i = top
        while i < bottom:
            inputs = _taken(bottom - i)
            _tables_of(tables, near, x, inputs, i * stride + row, stride, terms)
            over = fresh > 0 and row == 0
            _part(
                out,
                width,
                begin * _CHUNK,
                end * _CHUNK,
                lanes,
                apart,
                terms,
                tables,
                sums,
                i,
                inputs,
                over,
            )
            i += inputs
