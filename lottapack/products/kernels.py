"""The kernels of products with ``sign1`` weights, which are bits: they look sums up instead of multiplying.

Four elements of an input have 16 sums under all signs. They are made once, and then serve every row of the matrix: four
bits of a row choose one of 16 numbers, which is one permutation of a vector register, for 16 rows at once. That and an
addition take the place of 64 multiplications, and nothing is rounded that a sum in binary32 would not round.

The order of summation is fixed, whatever the number of inputs and threads and the width of the processor's vectors.
The terms of an output, in the order of the matrix's columns (of its rows, if transposed), are taken four at a time as
``(t0 + t1) + (t2 + t3)``; the sums of 128 fours are added in order to a first zero, which makes a part; the parts
are added in order, and their sum is multiplied by scale. Terms past the end are zeros.

The signs come as words (``sign_bits.py``), are turned to bits in the order of elements, then to lanes of one output
each (``sign_lanes.py``), which look sums up (``sign_sums.py``).
"""

from typing import Any

import numpy as np

from lottapack.products.layout import CHUNK, SLAB, TABLES, TERMS
from lottapack.products.sign_bits import LANES, WIDTH
from lottapack.products.sign_lanes import columns_to_lanes, lanes_of_rows
from lottapack.products.sign_sums import part, tables_of, taken
from lottapack.rng.kernels.compiler import jit, space
from lottapack.rng.stream import WORDS

u32, u64, f32 = np.uint32, np.uint64, np.float32

_LANES, _WIDTH = u64(LANES), u64(WIDTH)
_TERMS, _CHUNK, _SLAB, _TABLES = u64(TERMS), u64(CHUNK), u64(SLAB), u64(TABLES)
_PART = u64(TERMS // WIDTH)  # numbers in a part
_space, _near, _sums_space = space(WORDS), space(WIDTH), space(LANES * 24)


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
    lanes_of_rows(lanes, bits, words, d_in, begin, end, apart, k0, k1, s0, s1)
    for slab in range(u64(0), n, _SLAB):
        last = min(slab + _SLAB, n)
        for number in range(u64(0), numbers, _PART):
            terms = min(_TERMS, d_in - number * _WIDTH)
            here, i = lanes[number * _LANES :], slab
            while i < last:
                inputs = taken(last - i)
                tables_of(tables, near, x, inputs, i * d_in + number * _WIDTH, d_in, terms)
                part(
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
                columns_to_lanes(bits, first, d_in, lanes, at, apart)
        i = top
        while i < bottom:
            inputs = taken(bottom - i)
            tables_of(tables, near, x, inputs, i * stride + row, stride, terms)
            over = fresh > 0 and row == 0
            part(
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


@jit
def ordered(out: Any, sums: Any, width: Any, columns: Any, begin: Any, end: Any, scale: Any) -> None:
    """Write rows ``begin`` to ``end - 1`` of transposed()'s sums in the order of columns, times scale.

    ``out``: rows of ``columns``, float32. ``sums``: rows of ``width``, as transposed() has them. The others: uint64.
    """
    run = _CHUNK // _LANES  # the columns of a chunk whose sums lie LANES apart
    for row in range(begin, end):
        to, chunk = row * columns, row * width
        for first in range(u64(0), columns, run):
            lane = first % _CHUNK // run
            at = chunk + first - lane * run + lane
            if first + run <= columns:
                for n in range(run):
                    out[to + first + n] = sums[at + n * _LANES] * scale
            else:
                for n in range(columns - first):
                    out[to + first + n] = sums[at + n * _LANES] * scale
