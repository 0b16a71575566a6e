"""The numba kernels of the CPU backend. They hold no lock, so that threads run them side by side.

Lessons of the profile (two cores of Zen 5, numba 0.68; decision 0014 has the figures):

- Philox is bound by its chain of multiplications, so 32 counters go side by side. Lanes of 64 bits: masked to 32 bits,
  a product is one ``vpmuludq``, whose upper half is found by a shift. Written as vectors (``_group``) it doesn't hang
  on what LLVM makes of a loop.
- A look-up in the 256 KB table of ``normal16`` costs a line of the L2 cache, which is all that the core can fetch in
  that time. Where 32 numbers fit two vector registers (AVX-512), a formula gives the same bits without memory
  (``quantile.py``). It runs in two passes over a block, because one long chain of operations leaves the units idle.
- Elsewhere look-ups store several entries at once and ask for the output's next lines on the way.
- Tried and no faster: half a table by symmetry, half of the elements looked up while the others are computed,
  huge pages, streaming stores (half as fast).
- Where the value follows from the index by exact arithmetic there is no look-up, and the loop is vectorised.

All scalars are of one unsigned type, because numba makes a float of a signed and an unsigned integer.
Everything but ``vectors.py`` is in one module, because numba's cache looks only at a function's own file.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from lottapack.rng.kernel_cache import jit as _jit
from lottapack.rng.quantile import DEGREE, FALL, FROM, PIECES
from lottapack.rng.stream import COUNTERS, MULTIPLIERS, ROUNDS, WEYL, WORDS
from lottapack.rng.vectors import Vectors

u32, u64, i32, f32 = np.uint32, np.uint64, np.int32, np.float32

GROUP = 32
"""Counters whose words are made at once, in 64-bit lanes; each processor takes them in parts of its own width."""

FORMULA = "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")
"""Whether this processor has the vectors of ``fill_normal16``."""

_LOW32 = u64(0xFFFFFFFF)
_32 = u64(32)
_COUNTERS, _WORDS, _GROUP, _LANES = u64(COUNTERS), u64(WORDS), u64(GROUP), u64(16)
_FLOAT32, _BFLOAT16, _FLOAT16 = u64(0), u64(1), u64(2)


@intrinsic  # type: ignore[untyped-decorator]
def _group(_: Any, out: Any, first: Any, low: Any, high: Any, s0: Any, s1: Any, k0: Any, k1: Any) -> Any:
    """Fill the words of GROUP counters from ``low + first`` on: ``out[256 * lane + first + 0 .. GROUP - 1]``."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, b, signature, arguments, GROUP)
        word = ir.IntType(64)
        wide = ir.VectorType(word, GROUP)
        low32, half = v.every(0xFFFFFFFF, wide), v.every(32, wide)
        _, first, low, high, s0, s1, k0, k1 = arguments
        c0 = b.add(v.spread(b.add(low, first)), ir.Constant(wide, list(range(GROUP))))
        c1, c2, c3 = v.spread(high), v.spread(s0), v.spread(s1)
        for _round in range(ROUNDS):  # only the lower halves of c0 to c3 count
            p0, p1 = (b.mul(v.every(m, wide), b.and_(c, low32)) for m, c in zip(MULTIPLIERS, (c0, c2), strict=True))
            c0 = b.xor(b.xor(b.lshr(p1, half), c1), v.spread(k0))
            c2 = b.xor(b.xor(b.lshr(p0, half), c3), v.spread(k1))
            c1, c3 = p1, p0
            k0, k1 = (b.and_(b.add(k, word(w)), word(0xFFFFFFFF)) for k, w in zip((k0, k1), WEYL, strict=True))
        for lane, words in enumerate((c0, c1, c2, c3)):
            v.store(0, b.add(first, word(COUNTERS * lane)), b.trunc(words, v.u32))
        return context.get_dummy_value()

    return types.void(out, first, low, high, s0, s1, k0, k1), generate


@_jit
def _words(out: Any, block: Any, k0: Any, k1: Any, s0: Any, s1: Any) -> None:
    """Fill ``out``, shape (1024,), uint32, with the words of ``block`` (spec: stream, sections 1 to 3)."""
    first = block * _COUNTERS  # the low half of the counter cannot overflow within a block
    for t in range(u64(0), _COUNTERS, _GROUP):
        _group(out, t, first & _LOW32, first >> _32, s0, s1, k0, k1)


@_jit
def _look_up(out: Any, words: Any, table: Any, shift: Any, mask: Any) -> None:
    for i in range(out.size):
        out[i] = table[(words[i] >> shift) & mask]


@intrinsic  # type: ignore[untyped-decorator]
def _prefetch(_: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of ``array[index]``, to be written; past the end it is harmless."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, number = ir.IntType(8), ir.IntType(32)
        place = Vectors(context, builder, signature, arguments, 1).pointer(0, arguments[1], byte)
        of = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        hint = builder.module.declare_intrinsic("llvm.prefetch", [place.type], of)
        builder.call(hint, [place, number(1), number(3), number(1)])  # write, all levels, data
        return context.get_dummy_value()

    return types.void(array, index), generate


@_jit
def _look_up_block(out: Any, words: Any, table: Any, bits: Any, pair: Any) -> None:
    """All elements that one block serves. ``out``, ``words``: seen as uint64; ``pair``: elements in 64 bits, 2 or 4."""
    mask, run, begin = (u64(1) << bits) - u64(1), _WORDS // pair, u64(0)
    for shift in range(u64(0), _32, bits):
        for line in range(u64(0), run, u64(8)):
            _prefetch(out, begin + line + run)
            for i in range(line, line + u64(8)):
                if pair == u64(2):
                    word = words[i] >> shift
                    out[begin + i] = u64(table[word & mask]) | (u64(table[(word >> _32) & mask]) << _32)
                else:
                    one, two = words[u64(2) * i] >> shift, words[u64(2) * i + u64(1)] >> shift
                    low = u64(table[one & mask]) | (u64(table[(one >> _32) & mask]) << u64(16))
                    high = u64(table[two & mask]) | (u64(table[(two >> _32) & mask]) << u64(16))
                    out[begin + i] = low | (high << _32)
        begin += run


@_jit
def _select(out: Any, words: Any, table: Any, shift: Any) -> None:
    """One bit an element: choose between two entries without a look-up."""
    zero, change = u32(table[0]), u32(table[0] ^ table[1])
    for i in range(out.size):
        out[i] = zero ^ (change * ((words[i] >> shift) & u32(1)))


@_jit
def _uniform(out: Any, words: Any, unit: Any, shift: Any) -> None:
    """``uniform16``: (2 n - 65535) * unit, where ``unit`` is scale / 65536, is rounded once like table[n] * scale."""
    for i in range(out.size):
        twice = i32(((words[i] >> shift) & u32(0xFFFF)) << u32(1))
        out[i] = f32(f32(twice - i32(65535)) * unit).view(u32)


@_jit
def fill(out: Any, table: Any, bits: Any, unit: Any, block: Any, skip: Any, k0: Any, k1: Any, s0: Any, s1: Any) -> None:
    """Fill ``out`` with elements from number ``skip`` of those that ``block`` and the blocks after it serve.

    ``out``: shape (n,), uint32 or uint16. ``table``: scaled bits, shape (2**bits,), the type of ``out``.
    ``unit``: float32, above 0 for ``uniform16`` in float32 only. All others: uint64. Spec: stream, section 4.
    """
    words = np.empty(WORDS, u32)
    end = skip + u64(out.size)
    place = u64(0)  # of the block's first element, counted from the first that the first block serves
    served = _WORDS * (_32 // bits)
    while place < end:
        _words(words, block, k0, k1, s0, s1)
        if bits > u64(1) and unit == 0 and place >= skip and place + served <= end:
            run = out[place - skip : place - skip + served].view(u64)
            _look_up_block(run, words.view(u64), table, bits, u64(8 // out.itemsize))
        else:
            _fill_part(out, words, table, bits, unit, place, skip)
        block += u64(1)
        place += served


@_jit
def _fill_part(out: Any, words: Any, table: Any, bits: Any, unit: Any, place: Any, skip: Any) -> None:
    """Those elements of one block, whose first is number ``place``, that lie in ``out``."""
    end, mask = skip + u64(out.size), u32((u64(1) << bits) - u64(1))
    for shift in range(u64(0), _32, bits):
        lo, hi = max(place, skip), min(place + _WORDS, end)
        if lo < hi:
            run, used = out[lo - skip : hi - skip], words[lo - place : hi - place]
            if bits == u64(1):
                _select(run, used, table, u32(shift))
            elif unit > 0:
                _uniform(run, used, unit, u32(shift))
            else:
                _look_up(run, used, table, u32(shift), mask)
        place += _WORDS


@intrinsic  # type: ignore[untyped-decorator]
def _pieces(_: Any, words: Any, at: Any, shift: Any, t: Any, piece: Any, rows: Any) -> Any:
    """The formula's first half for the 16 indices in ``words[at:]``: ``t``, and ``piece`` with the sign of ``s``."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, b, signature, arguments, 16)
        at, shift = arguments[1], arguments[2]
        index = b.and_(b.lshr(v.load(0, at, v.u32), v.spread(b.trunc(shift, ir.IntType(32)))), v.every(0xFFFF, v.u32))
        s = v.fma(b.sitofp(index, v.f32), v.every(2.0**-16, v.f32), v.every(-32767.5 / 65536, v.f32))
        distance = b.bitcast(b.and_(v.bits(s), v.every(0x7FFFFFFF, v.u32)), v.f32)
        m = v.fma(distance, v.every(-FALL, v.f32), v.every(FROM, v.f32))
        piece = b.lshr(v.bits(b.fmul(b.fmul(m, m), m)), v.every(23, v.u32))
        centre = _choose(v, piece, 0)
        v.store(3, at, b.fsub(distance, centre))
        v.store(4, at, b.or_(piece, b.and_(v.bits(s), v.every(0x80000000, v.u32))))
        return context.get_dummy_value()

    return types.void(words, at, shift, t, piece, rows), generate


def _choose(v: Vectors, piece: Any, row: int) -> Any:
    """Each lane's entry of a row of the coefficients (argument 5), by the lowest five bits of ``piece``."""
    low, high = (v.load(5, ir.IntType(64)(PIECES * row + half), v.f32) for half in (0, 16))
    return v.call("llvm.x86.avx512.vpermi2var.ps.512", [v.f32, v.u32, v.f32], low, piece, high)


def _finish(form: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def finish(_: Any, out: Any, place: Any, t: Any, piece: Any, at: Any, rows: Any, scale: Any) -> Any:
        """The formula's second half for 16 elements: ``out[place:]`` from ``t[at:]`` and ``piece[at:]``."""

        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            v = Vectors(context, b, signature, arguments, 16)
            _, place, _, _, at, _, scale = arguments
            t, piece = v.load(2, at, v.f32), v.load(3, at, v.u32)
            rest = _choose(v, piece, 3 + DEGREE)
            for power in reversed(range(DEGREE)):
                rest = v.fma(t, rest, _choose(v, piece, 3 + power))
            line = v.fma(t, _choose(v, piece, 2), _choose(v, piece, 1))
            sign = b.and_(piece, v.every(0x80000000, v.u32))
            entry = b.bitcast(b.or_(v.bits(v.fma(t, rest, line)), sign), v.f32)
            value = b.fmul(entry, v.spread(scale))
            if form == _FLOAT16:
                value = b.fptrunc(value, ir.VectorType(ir.HalfType(), 16))
            elif form == _BFLOAT16:
                u = v.bits(value)
                odd = b.and_(b.lshr(u, v.every(16, v.u32)), v.every(1, v.u32))
                u = b.lshr(b.add(u, b.add(odd, v.every(0x7FFF, v.u32))), v.every(16, v.u32))
                value = b.trunc(u, ir.VectorType(ir.IntType(16), 16))
            v.store(0, place, value)
            return context.get_dummy_value()

        return types.void(out, place, t, piece, at, rows, scale), generate

    return finish


_finish_float32, _finish_bfloat16, _finish_float16 = (_finish(form) for form in (0, 1, 2))


@_jit
def normal16(out: Any, words: Any, t: Any, piece: Any, rows: Any, scale: Any, form: Any) -> None:
    """The elements that n words serve, a multiple of 16, without the table, where FORMULA says that it can be done.

    ``out``: shape (2 n,). ``words``, ``t``, ``piece``: shape (n,); the last two are working space, float32 and uint32.
    ``rows``: of ``quantile.coefficients()``. ``scale``: float32. ``form``: 0 float32, 1 bfloat16, 2 float16.
    """
    count = u64(words.size)
    for field in range(u64(2)):
        for i in range(u64(0), count, _LANES):
            _pieces(words, i, field * u64(16), t, piece, rows)
        for i in range(u64(0), count, _LANES):
            if form == _FLOAT32:
                _finish_float32(out, field * count + i, t, piece, i, rows, scale)
            elif form == _BFLOAT16:
                _finish_bfloat16(out, field * count + i, t, piece, i, rows, scale)
            else:
                _finish_float16(out, field * count + i, t, piece, i, rows, scale)


@_jit
def fill_normal16(
    out: Any, rows: Any, scale: Any, form: Any, block: Any, skip: Any, k0: Any, k1: Any, s0: Any, s1: Any
) -> None:
    """As fill(), by the formula of normal16()."""
    words, t, piece = np.empty(WORDS, u32), np.empty(WORDS, f32), np.empty(WORDS, u32)
    part = np.empty(2 * WORDS, out.dtype)
    end, served = skip + u64(out.size), u64(2) * _WORDS
    place = u64(0)
    while place < end:
        _words(words, block, k0, k1, s0, s1)
        if place >= skip and place + served <= end:
            normal16(out[place - skip : place - skip + served], words, t, piece, rows, scale, form)
        else:
            normal16(part, words, t, piece, rows, scale, form)
            lo, hi = max(place, skip), min(place + served, end)
            out[lo - skip : hi - skip] = part[lo - place : hi - place]
        block += u64(1)
        place += served


@_jit
def fingerprint(bits: Any, start: Any) -> Any:
    """The fingerprint of ``bits``, shape (n,), uint32 or uint16, whose first element is number ``start`` (uint64)."""
    total = u64(0)
    for i in range(bits.size):
        z = u64(bits[i]) ^ ((start + u64(i)) * u64(0x9E3779B97F4A7C15))
        z = (z ^ (z >> u64(30))) * u64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> u64(27))) * u64(0x94D049BB133111EB)
        total += z ^ (z >> u64(31))
    return total
