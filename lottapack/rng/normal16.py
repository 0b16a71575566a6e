"""The kernels that compute ``normal16`` instead of looking it up, for processors with 512-bit vectors.

Lessons of the profile (one thread of Zen 5, nanoseconds a weight; decisions 0014 and 0021):

- The words take 0.09 and the formula 0.25. It is bound by the two units that do both the two-register permutations
  (ten a vector) and the fused multiplications (twelve), so what saves either counts, and nothing else does.
- It runs in two passes over a block, because one long chain of operations leaves the units idle.
- Into memory that is in no cache another 0.2 would be lost waiting for the output's lines: asked for during the first
  pass, they are there when the second one writes. Asked for later, or a block ahead, they are late or in the way.
- ``bfloat16`` keeps 8 of 24 digits, so a shorter polynomial within NEAR units settles nearly all; where a number comes
  so near to the middle between two that it does not, two vectors are computed again in full (3 % of them).
- Coefficients stay in registers only where the whole loop is one intrinsic: LLVM must think that a store changes them.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from lottapack.rng.kernel_cache import jit
from lottapack.rng.kernels import BFLOAT16, FLOAT16, FLOAT32, fingerprint, generate_words
from lottapack.rng.quantile import FALL, FROM, NEAR, NEAR_DEGREE, PIECES, ROWS
from lottapack.rng.stream import WORDS
from lottapack.rng.vectors import Vectors

u32, u64, f32 = np.uint32, np.uint64, np.float32

FORMULA = "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")
"""Whether this processor has the vectors of ``fill_normal16``."""

LANES = 16
"""Elements in a vector."""

_WORDS = u64(WORDS)

_MARGIN = 1 << (4 * NEAR + 2).bit_length()
"""More than a scaled number may be from the true one, in units of its last place.

The scale's digits (below 2) and the step of the units at a power of two double the distance each; two roundings.
"""


class _Rows:
    """Rows of coefficients, kept in two vector registers each for the length of a loop."""

    def __init__(self, v: Vectors, argument: int, first: int, count: int) -> None:
        self.v = v
        self.halves = [
            [v.load(argument, ir.IntType(64)(PIECES * row + half), v.f32) for half in (0, LANES)]
            for row in range(first, first + count)
        ]

    def choose(self, row: int, piece: Any) -> Any:
        """Each lane's entry of a row, by the lowest five bits of ``piece``."""
        low, high = self.halves[row]
        name = "llvm.x86.avx512.vpermi2var.ps.512"
        return self.v.call(name, [self.v.f32, self.v.u32, self.v.f32], low, piece, high)

    def polynomial(self, t: Any, piece: Any, first: int) -> Any:
        """By Horner's rule; the coefficients are all rows from ``first`` on."""
        total = self.choose(len(self.halves) - 1, piece)
        for row in reversed(range(first, len(self.halves) - 1)):
            total = self.v.fma(t, total, self.choose(row, piece))
        return total


@intrinsic  # type: ignore[untyped-decorator]
def _pieces(_: Any, words: Any, shift: Any, t: Any, piece: Any, rows: Any, out: Any, begin: Any) -> Any:
    """The formula's first half for the indices in all ``words``: ``t``, and ``piece`` with the sign of ``s``.

    On the way the lines of ``out[begin:]`` are asked for.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, b, signature, arguments, LANES)
        shift, begin = v.spread(b.trunc(arguments[1], ir.IntType(32))), arguments[6]
        centre = _Rows(v, 4, 0, 1)
        once = 4 // (v.types[5].dtype.bitwidth // 8)  # vectors whose elements fill a line
        with v.steps(WORDS, once) as start:
            v.prefetch(5, b.add(begin, start))
            for vector in range(once):
                at = b.add(start, ir.IntType(64)(vector * LANES))
                index = b.and_(b.lshr(v.load(0, at, v.u32), shift), v.every(0xFFFF, v.u32))
                s = v.fma(b.sitofp(index, v.f32), v.every(2.0**-16, v.f32), v.every(-32767.5 / 65536, v.f32))
                distance = b.bitcast(b.and_(v.bits(s), v.every(0x7FFFFFFF, v.u32)), v.f32)
                m = v.fma(distance, v.every(-FALL, v.f32), v.every(FROM, v.f32))
                piece = b.lshr(v.bits(b.fmul(b.fmul(m, m), m)), v.every(23, v.u32))
                v.store(2, at, b.fsub(distance, centre.choose(0, piece)))
                v.store(3, at, b.or_(piece, b.and_(v.bits(s), v.every(0x80000000, v.u32))))
        return context.get_dummy_value()

    return types.void(words, shift, t, piece, rows, out, begin), generate


def _scaled(v: Vectors, magnitude: Any, piece: Any, scale: Any) -> Any:
    """The magnitude with the sign that ``piece`` carries, times the scale."""
    b = v.builder
    sign = b.and_(piece, v.every(0x80000000, v.u32))
    return b.fmul(b.bitcast(b.or_(v.bits(magnitude), sign), v.f32), scale)


def _value(v: Vectors, place: Any, table: _Rows, scale: Any) -> Any:
    """The elements whose ``t`` (argument 2) and ``piece`` (argument 3) are at ``place``, in binary32."""
    t, piece = v.load(2, place, v.f32), v.load(3, place, v.u32)
    line = v.fma(t, table.choose(2, piece), table.choose(1, piece))
    return _scaled(v, v.fma(t, table.polynomial(t, piece, 3), line), piece, scale)


def _to_bfloat16(v: Vectors, values: list[Any]) -> Any:
    """Two vectors rounded to nearest, ties to even, in integers, as one of upper halves."""
    b, rounded = v.builder, []
    for value in values:
        u = v.bits(value)
        odd = b.and_(b.lshr(u, v.every(16, v.u32)), v.every(1, v.u32))
        rounded.append(b.add(u, b.add(odd, v.every(0x7FFF, v.u32))))
    return _upper_halves(v, rounded)


def _upper_halves(v: Vectors, pair: list[Any]) -> Any:
    halves, word = ir.VectorType(ir.IntType(16), 2 * LANES), ir.VectorType(ir.IntType(32), 2 * LANES)
    return v.builder.shuffle_vector(
        *(v.builder.bitcast(one, halves) for one in pair), ir.Constant(word, list(range(1, 4 * LANES, 2)))
    )


def _finish(form: Any) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def finish(_: Any, out: Any, begin: Any, t: Any, piece: Any, rows: Any, scale: Any) -> Any:
        """The formula's second half: the elements ``out[begin:]`` that the words of a block serve with one field."""

        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            v = Vectors(context, b, signature, arguments, LANES)
            begin, scale = arguments[1], v.spread(arguments[5])
            table = _Rows(v, 4, 0, ROWS)
            with v.steps(WORDS) as at:
                value = _value(v, at, table, scale)
                if form == FLOAT16:
                    value = b.fptrunc(value, ir.VectorType(ir.HalfType(), LANES))
                v.store(0, b.add(begin, at), value)
            return context.get_dummy_value()

        return types.void(out, begin, t, piece, rows, scale), generate

    return finish


_finish_float32, _finish_float16 = _finish(FLOAT32), _finish(FLOAT16)


@intrinsic  # type: ignore[untyped-decorator]
def _finish_bfloat16(_: Any, out: Any, begin: Any, t: Any, piece: Any, rows: Any, scale: Any, near: Any) -> Any:
    """As above: by the shorter polynomial, and where that may be wrong again in full."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, b, signature, arguments, LANES)
        begin, scale, word = arguments[1], v.spread(arguments[5]), ir.IntType(64)
        table = _Rows(v, 6, 0, NEAR_DEGREE + 1)
        with v.steps(WORDS, 2) as at:
            places = [at, b.add(at, word(LANES))]
            rounded, doubts = [], []
            for place in places:
                t, piece = v.load(2, place, v.f32), v.load(3, place, v.u32)
                u = v.bits(_scaled(v, table.polynomial(t, piece, 0), piece, scale))
                rounded.append(b.add(u, v.every(0x8000, v.u32)))  # right wherever it is not within _MARGIN of a tie
                shifted = b.add(u, v.every(0x8000 + _MARGIN, v.u32))
                far = b.and_(shifted, v.every(0x10000 - 2 * _MARGIN, v.u32))
                doubts.append(b.icmp_unsigned("==", far, v.every(0, v.u32)))
            v.store(0, b.add(begin, at), _upper_halves(v, rounded))
            some = b.bitcast(b.or_(*doubts), ir.IntType(LANES))
            with b.if_then(b.icmp_unsigned("!=", some, ir.IntType(LANES)(0)), likely=False):
                full = _Rows(v, 4, 0, ROWS)
                v.store(0, b.add(begin, at), _to_bfloat16(v, [_value(v, place, full, scale) for place in places]))
        return context.get_dummy_value()

    return types.void(out, begin, t, piece, rows, scale, near), generate


@intrinsic  # type: ignore[untyped-decorator]
def _unscaled(_: Any, out: Any, t: Any, piece: Any, near: Any) -> Any:
    """What _nearly() computes before it scales and rounds, without the sign: for the check of its margin."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, b, signature, arguments, LANES)
        table = _Rows(v, 3, 0, NEAR_DEGREE + 1)
        with v.steps(WORDS) as at:
            t, piece = v.load(1, at, v.f32), v.load(2, at, v.u32)
            v.store(0, at, table.polynomial(t, piece, 0))
        return context.get_dummy_value()

    return types.void(out, t, piece, near), generate


@jit
def space() -> Any:
    """Arrays for the words of a block, and for what becomes of them on the way."""
    return np.empty(WORDS, u32), np.empty(WORDS, f32), np.empty(WORDS, u32)


@jit
def normal16(out: Any, words: Any, t: Any, piece: Any, rows: Any, near: Any, scale: Any, form: Any) -> None:
    """The elements that the words of a block serve, without the table, where FORMULA says that it can be done.

    ``out``: shape (2048,). ``words``, ``t``, ``piece``: of space(); the last two are for working in.
    ``rows``, ``near``: of ``quantile.coefficients()``. ``scale``: float32. ``form``: one of FLOAT32 and so on.
    """
    for field in range(u64(2)):
        begin = field * _WORDS
        _pieces(words, field * u64(16), t, piece, rows, out, begin)
        if form == FLOAT32:
            _finish_float32(out, begin, t, piece, rows, scale)
        elif form == BFLOAT16:
            _finish_bfloat16(out, begin, t, piece, rows, scale, near)
        else:
            _finish_float16(out, begin, t, piece, rows, scale)


@jit
def nearly16(out: Any, words: Any, t: Any, piece: Any, rows: Any, near: Any) -> None:
    """The magnitudes that the shorter polynomial gives for the lower halves of a block's words. ``out``: uint32."""
    _pieces(words, u64(0), t, piece, rows, out, u64(0))
    _unscaled(out, t, piece, near)


@jit
def fill_normal16(
    out: Any, rows: Any, near: Any, scale: Any, form: Any, block: Any, skip: Any, k0: Any, k1: Any, s0: Any, s1: Any
) -> None:
    """As kernels.fill(), by the formula of normal16()."""
    words, t, piece = space()
    part = np.empty(2 * WORDS, out.dtype)
    end, served = skip + u64(out.size), u64(2) * _WORDS
    place = u64(0)
    while place < end:
        generate_words(words, block, k0, k1, s0, s1)
        if place >= skip and place + served <= end:
            normal16(out[place - skip : place - skip + served], words, t, piece, rows, near, scale, form)
        else:
            normal16(part, words, t, piece, rows, near, scale, form)
            lo, hi = max(place, skip), min(place + served, end)
            out[lo - skip : hi - skip] = part[lo - place : hi - place]
        block += u64(1)
        place += served


@jit
def fingerprint_normal16(
    part: Any, count: Any, rows: Any, near: Any, scale: Any, form: Any, block: Any, k0: Any, k1: Any, s0: Any, s1: Any
) -> Any:
    """As kernels.fingerprint_blocks(), by the formula of normal16()."""
    words, t, piece = space()
    served, total = u64(2) * _WORDS, u64(0)
    for place in range(u64(0), count, served):
        generate_words(words, block, k0, k1, s0, s1)
        normal16(part, words, t, piece, rows, near, scale, form)
        total += fingerprint(part[: min(served, count - place)], block * served)
        block += u64(1)
    return total
