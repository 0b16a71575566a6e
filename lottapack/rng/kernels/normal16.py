"""Kernels that compute ``normal16`` by a formula instead of a look-up, for processors with 512-bit vectors.

Profiling showed (one thread of Zen 5, nanoseconds a weight; decisions 0014, 0021 and 0028):

- The words take 0.08 and the formula 0.22. The execution units are the limit: two of four do fused multiplications
  (twelve for each vector), one of those and one more do two-register permutations (ten). So saving either counts most.
- The formula runs in two passes over a block, because one long chain of operations leaves the units idle.
- Writing to memory outside the caches would lose another 0.2 waiting for cache lines. The first pass prefetches
them, so
  that they are there when the second pass writes. Prefetching later, or a block ahead, is too late or evicts others.
- ``bfloat16`` keeps 8 of 24 digits, so once many elements of one scale are requested, a formula of half the length is
  used (``normal16_short.py``).
- Coefficients stay in registers only if the whole loop is one intrinsic: otherwise LLVM assumes that stores change
them.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lottapack.rng.kernels import declared
from lottapack.rng.kernels.compiler import jit, space
from lottapack.rng.kernels.normal16_short import LANES, PIECE, T, short16, working_space
from lottapack.rng.kernels.tables import BFLOAT16, FLOAT32, copy, fingerprint
from lottapack.rng.kernels.vectors import Rows, Vectors
from lottapack.rng.kernels.words import generate_pairs, generate_words
from lottapack.rng.quantile import FALL, FROM, ROWS
from lottapack.rng.stream import WORDS

u32, u64, f32 = np.uint32, np.uint64, np.float32

_FITTED = u64(declared.FITTED)
_WORDS = u64(WORDS)
_part = space(2 * WORDS)


@intrinsic  # type: ignore[untyped-decorator]
def _pieces(_: Any, work: Any, rows: Any, out: Any, begin: Any, shift: Any) -> Any:
    """Compute the formula's first half for the indices in all words: ``t``, and ``piece`` with the sign of ``s``.

    Prefetches the cache lines of ``out[begin:]``.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v, word = Vectors(context, b, signature, arguments, LANES), ir.IntType(64)
        begin, shift = arguments[3], v.spread(b.trunc(arguments[4], ir.IntType(32)))
        centre = Rows(v, 1, 0, 1)
        once = 4 // (v.types[2].dtype.bitwidth // 8)  # vectors whose elements fill a cache line
        with v.steps(WORDS, once) as start:
            v.prefetch(2, b.add(begin, start))
            for vector in range(once):
                at = b.add(start, word(vector * LANES))
                index = b.and_(b.lshr(v.load(0, at, v.u32), shift), v.every(0xFFFF, v.u32))
                s = v.fma(b.sitofp(index, v.f32), v.every(2.0**-16, v.f32), v.every(-32767.5 / 65536, v.f32))
                distance = b.bitcast(b.and_(v.bits(s), v.every(0x7FFFFFFF, v.u32)), v.f32)
                m = v.fma(distance, v.every(-FALL, v.f32), v.every(FROM, v.f32))
                piece = b.lshr(v.bits(b.fmul(b.fmul(m, m), m)), v.every(23, v.u32))
                v.store(0, b.add(at, word(T)), b.fsub(distance, centre.choose(0, piece)))
                v.store(0, b.add(at, word(PIECE)), b.or_(piece, b.and_(v.bits(s), v.every(0x80000000, v.u32))))
        return context.get_dummy_value()

    return types.void(work, rows, out, begin, shift), generate


def _scaled(v: Vectors, magnitude: Any, piece: Any, scale: Any) -> Any:
    """Give the magnitude the sign that ``piece`` carries, and scale it."""
    b = v.builder
    sign = b.and_(piece, v.every(0x80000000, v.u32))
    return b.fmul(b.bitcast(b.or_(v.bits(magnitude), sign), v.f32), scale)


def _value(v: Vectors, place: Any, table: Rows, scale: Any) -> Any:
    """Compute the elements whose ``t`` and ``piece`` are stored at ``place``, in binary32."""
    b, word = v.builder, ir.IntType(64)
    t, piece = v.load(0, b.add(place, word(T)), v.f32), v.load(0, b.add(place, word(PIECE)), v.u32)
    line = v.fma(t, table.choose(2, piece), table.choose(1, piece))
    return _scaled(v, v.fma(t, table.polynomial(t, piece, 3), line), piece, scale)


def _to_bfloat16(v: Vectors, value: Any) -> Any:
    """Round to nearest, ties to even, with integers."""
    b, u = v.builder, v.bits(value)
    odd = b.and_(b.lshr(u, v.every(16, v.u32)), v.every(1, v.u32))
    rounded = b.add(u, b.add(odd, v.every(0x7FFF, v.u32)))
    return b.trunc(b.lshr(rounded, v.every(16, v.u32)), ir.VectorType(ir.IntType(16), LANES))


def _finish(dtype: str) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def finish(_: Any, work: Any, rows: Any, out: Any, begin: Any, scale: Any) -> Any:
        """Compute the formula's second half: the elements ``out[begin:]`` from one field of the words of a block."""

        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            v = Vectors(context, b, signature, arguments, LANES)
            begin, scale = arguments[3], v.spread(arguments[4])
            table = Rows(v, 1, 0, ROWS)
            with v.steps(WORDS) as at:
                value = _value(v, at, table, scale)
                if dtype == "bfloat16":
                    value = _to_bfloat16(v, value)
                elif dtype == "float16":
                    value = b.fptrunc(value, ir.VectorType(ir.HalfType(), LANES))
                v.store(2, b.add(begin, at), value)
            return context.get_dummy_value()

        return types.void(work, rows, out, begin, scale), generate

    return finish


_finish_float32, _finish_bfloat16, _finish_float16 = map(_finish, ("float32", "bfloat16", "float16"))


@jit
def elements16(out: Any, work: Any, rows: Any, scale: Any, form: Any) -> None:
    """Compute the elements that the words of a block serve, without the table. Needs declared.FORMULA.

    ``out``: shape (2048,). ``work``: working_space() with the words of words_for(). ``scale``: float32. ``form``:
    one of FORMS, with ``rows`` of ``quantile.coefficients()``; or FITTED, with ``rows`` of ``fits.fitted()`` for
    this scale.
    """
    if form == _FITTED:
        short16(out, work, rows)
        return
    for field in range(u64(2)):
        begin = field * _WORDS
        _pieces(work, rows, out, begin, field * u64(16))
        if form == FLOAT32:
            _finish_float32(work, rows, out, begin, scale)
        elif form == BFLOAT16:
            _finish_bfloat16(work, rows, out, begin, scale)
        else:
            _finish_float16(work, rows, out, begin, scale)


@jit
def words_for(words: Any, form: Any, block: Any, k0: Any, k1: Any, s0: Any, s1: Any) -> None:
    """Generate the words of ``block`` in the order of elements16()."""
    if form == _FITTED:
        generate_pairs(words, block, k0, k1, s0, s1)
    else:
        generate_words(words, block, k0, k1, s0, s1)


@jit
def blocks16(out: Any, words: Any, rows: Any, scale: Any, form: Any) -> None:
    """Run elements16() on several blocks. ``out``: shape (2048 n,). ``words``: shape (1024 n,)."""
    work = working_space(u32)
    for block in range(u64(0), u64(words.size) // _WORDS):
        start = block * _WORDS
        copy(work[:_WORDS], words[start : start + _WORDS])
        elements16(out[u64(2) * start : u64(2) * (start + _WORDS)], work, rows, scale, form)


@jit
def fill_normal16(
    out: Any, block: Any, skip: Any, rows: Any, scale: Any, form: Any, k0: Any, k1: Any, s0: Any, s1: Any
) -> None:
    """Fill like tables.fill(), by the formula of elements16()."""
    work = working_space(u32)
    words = work[:_WORDS]
    part = _part(out)
    end, served = skip + u64(out.size), u64(2) * _WORDS
    place = u64(0)
    while place < end:
        words_for(words, form, block, k0, k1, s0, s1)
        if place >= skip and place + served <= end:
            elements16(out[place - skip : place - skip + served], work, rows, scale, form)
        else:
            elements16(part, work, rows, scale, form)
            lo, hi = max(place, skip), min(place + served, end)
            copy(out[lo - skip : hi - skip], part[lo - place : hi - place])
        block += u64(1)
        place += served


@jit
def fingerprint_normal16(
    part: Any, count: Any, block: Any, rows: Any, scale: Any, form: Any, k0: Any, k1: Any, s0: Any, s1: Any
) -> Any:
    """Return the fingerprint like tables.fingerprint_blocks(), by the formula of elements16()."""
    work = working_space(u32)
    words = work[:_WORDS]
    served, total = u64(2) * _WORDS, u64(0)
    for place in range(u64(0), count, served):
        words_for(words, form, block, k0, k1, s0, s1)
        elements16(part, work, rows, scale, form)
        total += fingerprint(part[: min(served, count - place)], block * served)
        block += u64(1)
    return total
