"""The kernel of products with blocks in bfloat16, for processors with dot products of bfloat16.

It adds to sums in binary32. torch returns such a product in bfloat16 only, so a sum over blocks would be rounded after
every block.

The kernel interleaves two rows of a block, so a lane holds two terms of one column; an instruction multiplies them by
two elements of an input, which all lanes share. A panel of 64 columns and 256 rows takes 32 KB of the first-level cache
and serves all inputs, six at a time, whose sums fill 24 registers.

The instruction treats subnormal numbers as zeros and rounds each addition to nearest, as BLAS does on such processors.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lottapack.products.layout import DOT_COLUMNS, DOT_INPUTS, DOT_ROWS
from lottapack.rng.kernels.compiler import jit, space
from lottapack.rng.kernels.vectors import Vectors

u16, u32, u64, f32 = np.uint16, np.uint32, np.uint64, np.float32

LANES: Final = 16
VECTORS: Final = DOT_COLUMNS // LANES
_LANES, _COLUMNS, _INPUTS, _ROWS = u64(LANES), u64(DOT_COLUMNS), u64(DOT_INPUTS), u64(DOT_ROWS)
_sums_space = space(DOT_INPUTS * DOT_COLUMNS)


@intrinsic  # type: ignore[untyped-decorator]
def _interleave(_: Any, block: Any, first: Any, second: Any, panel: Any, at: Any) -> Any:
    """Write the 64 numbers of 16 bits from ``first`` and from ``second`` on, in pairs, to ``panel[at:at + 64]``."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v, word = Vectors(context, b, signature, arguments, LANES), ir.IntType(64)
        _, first, second, _, at = arguments
        short = ir.VectorType(ir.IntType(16), 2 * LANES)
        for half in range(2):
            one, other = (v.load(0, b.add(place, word(2 * LANES * half)), short) for place in (first, second))
            for part in range(2):
                order = [n // 2 + part * LANES + n % 2 * 2 * LANES for n in range(2 * LANES)]
                pairs = b.shuffle_vector(one, other, ir.Constant(ir.VectorType(ir.IntType(32), 2 * LANES), order))
                v.store(3, b.add(at, word((2 * half + part) * LANES)), b.bitcast(pairs, v.u32))
        return context.get_dummy_value()

    return types.void(block, first, second, panel, at), generate


@intrinsic  # type: ignore[untyped-decorator]
def _multiply(_: Any, pairs: Any, start: Any, panel: Any, count: Any, out: Any, first: Any, step: Any, add: Any) -> Any:
    """Write the dot products of DOT_INPUTS inputs and a panel to ``out[first + i * step:]``, or add them if ``add``.

    ``pairs[start:]``: for each pair of rows, the two elements of each input. ``count``: pairs of rows in the panel.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v, word = Vectors(context, b, signature, arguments, LANES), ir.IntType(64)
        _, start, _, count, _, first, step, add = arguments
        totals = [
            [cgutils.alloca_once_value(b, v.every(0.0, v.f32)) for _ in range(VECTORS)] for _ in range(DOT_INPUTS)
        ]
        form = ir.FunctionType(v.f32, [v.f32, v.u32, v.u32])
        dots = cgutils.get_or_insert_function(b.module, form, "llvm.x86.avx512bf16.dpbf16ps.512")
        with cgutils.for_range(b, count) as loop:
            columns = b.mul(loop.index, word(DOT_COLUMNS))
            terms = [v.load(2, b.add(columns, word(LANES * n)), v.u32) for n in range(VECTORS)]
            place = b.add(start, b.mul(loop.index, word(DOT_INPUTS)))
            for i, sums in enumerate(totals):
                pair = v.spread(b.load(v.pointer(0, b.add(place, word(i)), ir.IntType(32))))
                for term, total in zip(terms, sums, strict=True):
                    b.store(b.call(dots, [b.load(total), pair, term]), total)
        places = [
            [b.add(first, b.add(b.mul(step, word(i)), word(LANES * n))) for n in range(VECTORS)]
            for i in range(DOT_INPUTS)
        ]
        flat = [*zip((t for sums in totals for t in sums), (p for row in places for p in row), strict=True)]
        with b.if_then(add):
            for total, place in flat:
                b.store(b.fadd(v.load(4, place, v.f32), b.load(total)), total)
        for total, place in flat:
            v.store(4, place, b.load(total))
        return context.get_dummy_value()

    return types.void(pairs, start, panel, count, out, first, step, add), generate


@jit
def _panel_of(panel: Any, block: Any, row: Any, rows: Any, columns: Any, first: Any) -> None:
    """Write DOT_COLUMNS columns from ``first`` on, of some rows, with zeros beyond the block."""
    whole = first + _COLUMNS <= columns
    for pair in range((rows + u64(1)) // u64(2)):
        one = (row + u64(2) * pair) * columns + first
        if whole and u64(2) * pair + u64(1) < rows:
            _interleave(block, one, one + columns, panel, pair * _COLUMNS)
            continue
        for n in range(_COLUMNS):
            value = u32(0)
            if first + n < columns:
                value = u32(block[one + n])
                if u64(2) * pair + u64(1) < rows:
                    value |= u32(block[one + columns + n]) << u32(16)
            panel[pair * _COLUMNS + n] = value


@jit
def _pairs_of(pairs: Any, x: Any, start: Any, stride: Any, inputs: Any, rows: Any) -> None:
    """Write the elements of each six inputs, two by two, with zeros beyond the rows and the inputs."""
    count = (rows + u64(1)) // u64(2)
    for group in range(u64(0), inputs, _INPUTS):
        for i in range(_INPUTS):
            there, begin = group + i < inputs, start + (group + i) * stride
            for pair in range(count):
                value = u32(0)
                if there:
                    value = u32(x[begin + u64(2) * pair])
                    if u64(2) * pair + u64(1) < rows:
                        value |= u32(x[begin + u64(2) * pair + u64(1)]) << u32(16)
                pairs[(group * count) + pair * _INPUTS + i] = value


@jit
def dots(
    out: Any, x: Any, block: Any, work: Any, start: Any, stride: Any, columns: Any, begin: Any, end: Any, fresh: Any
) -> None:
    """Add ``x @ W`` to columns ``begin`` to ``end - 1`` of ``out``, for the rows of W in a block.

    ``out``: n rows of ``columns``, float32. ``x``: n rows of ``stride``, bits of bfloat16, whose elements from number
    ``start`` on are multiplied. ``block``: rows of ``columns``, bits of bfloat16. ``work``: working space, uint32,
    shape (layout.dots_space(),). ``fresh``: 1 to overwrite ``out``, 0 to add to it. Scalars: uint64.
    """
    sums = _sums_space(f32)
    n, height = u64(out.size) // columns, u64(block.size) // columns
    panel, pairs = work[: _ROWS // u64(2) * _COLUMNS], work[_ROWS // u64(2) * _COLUMNS :]
    for row in range(u64(0), height, _ROWS):
        rows = min(_ROWS, height - row)
        count = (rows + u64(1)) // u64(2)
        over = fresh > 0 and row == 0
        _pairs_of(pairs, x, start + row, stride, n, rows)
        for first in range(begin, end, _COLUMNS):
            _panel_of(panel, block, row, rows, columns, first)
            for i in range(u64(0), n, _INPUTS):
                inputs, width = min(_INPUTS, n - i), min(_COLUMNS, end - first)
                if inputs == _INPUTS and width == _COLUMNS:
                    _multiply(pairs, i * count, panel, count, out, i * columns + first, columns, not over)
                    continue
                _multiply(pairs, i * count, panel, count, sums, u64(0), _COLUMNS, False)
                for j in range(inputs):
                    at = (i + j) * columns + first
                    for m in range(width):
                        total = sums[j * _COLUMNS + m]
                        out[at + m] = total if over else f32(out[at + m] + total)
