"""One step of the decoder of ``trellis8`` for 16 lanes at once, in vectors of 512 bits (AVX-512).

Profiling showed (Zen 5, one thread): lane by lane an element takes 12 cycles, since each takes some 30 instructions.
The lanes share only the position in the words. Where no lane reads raw bits, each reads at most one word, so the next
words are spread over the lanes that need one; otherwise the sums of what the lanes before read give the positions.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lottapack.codecs.trellis_tables import LOW, NEXT, PRECISION, SINGLE, SLOTS
from lottapack.rng.kernels.vectors import Vectors

LANES = np.uint64(16)
"""The lanes of a step."""

_OUT, _STATE, _WORDS, _SLOTS, _BUCKETS = range(5)
"""The arguments that are arrays."""


def _any(v: Vectors, mask: Any) -> Any:
    return v.builder.icmp_unsigned("!=", v.builder.bitcast(mask, ir.IntType(16)), ir.IntType(16)(0))


def _gather(v: Vectors, base: Any, indices: Any, size: int) -> Any:
    """Return 32 bits each from ``base + size * index``."""
    every, number = ir.VectorType(ir.IntType(1), v.lanes), ir.IntType(32)
    base = v.builder.bitcast(base, ir.IntType(8).as_pointer())
    form = ir.FunctionType(v.u32, [v.u32, base.type, v.u32, every, number])
    function = cgutils.get_or_insert_function(v.builder.module, form, "llvm.x86.avx512.mask.gather.dpi.512")
    return v.builder.call(function, [v.every(0, v.u32), base, indices, v.every(1, every), number(size)])


def _sums(v: Vectors, counts: Any) -> Any:
    """Return in each lane the sum of the counts up to it."""
    zeros = v.every(0, v.u32)
    for distance in (1, 2, 4, 8):
        chosen = ir.Constant(v.u32, [*range(v.lanes - distance, v.lanes), *range(v.lanes, 2 * v.lanes - distance)])
        counts = v.builder.add(counts, v.builder.shuffle_vector(zeros, counts, chosen))
    return counts


def _with_word(v: Vectors, due: Any, x: Any, word: Any) -> Any:
    """Return the states after the lanes where ``due`` is true have read a word."""
    b = v.builder
    return b.select(due, b.or_(b.shl(x, v.every(16, v.u32)), word), x)


def _spread_words(v: Vectors, words: Any, due: Any, x: Any) -> tuple[Any, Any]:
    """Return the states after each lane has read at most one word, and how many were read."""
    b, mask = v.builder, ir.VectorType(ir.IntType(1), v.lanes)
    loaded = b.load(b.bitcast(words, ir.VectorType(ir.IntType(16), v.lanes).as_pointer()))
    loaded.align = 2
    form = ir.FunctionType(v.u32, [v.u32, v.u32, mask])
    function = cgutils.get_or_insert_function(b.module, form, "llvm.x86.avx512.mask.expand.v16i32")
    spread = b.call(function, [b.zext(loaded, v.u32), v.every(0, v.u32), due])
    count = b.ctpop(b.zext(b.bitcast(due, ir.IntType(16)), ir.IntType(64)))
    return _with_word(v, due, x, spread), count


def _raw_words(v: Vectors, words: Any, due: Any, x: Any, bucket: Any) -> tuple[Any, Any, Any]:
    """Return the states after each lane has read its raw bits and up to two words, how many, and the magnitudes."""
    b, word = v.builder, v.every(0xFFFF, v.u32)
    raw = b.and_(bucket, v.every(15, v.u32))
    # Whatever the first word is, it does not decide whether a second one is due.
    before = b.select(due, b.shl(x, v.every(16, v.u32)), x)
    again = b.icmp_unsigned("<", b.lshr(before, raw), v.every(LOW, v.u32))
    one = b.zext(due, v.u32)
    counts = b.add(one, b.zext(again, v.u32))
    ends = _sums(v, counts)
    first = b.sub(ends, counts)
    x = _with_word(v, due, x, b.and_(_gather(v, words, first, 2), word))
    mask = b.sub(b.shl(v.every(1, v.u32), raw), v.every(1, v.u32))
    magnitude = b.add(b.lshr(bucket, v.every(4, v.u32)), b.and_(x, mask))
    x = _with_word(v, again, b.lshr(x, raw), b.and_(_gather(v, words, b.add(first, one), 2), word))
    count = b.zext(b.extract_element(ends, ir.IntType(32)(v.lanes - 1)), ir.IntType(64))
    return x, count, magnitude


@intrinsic  # type: ignore[untyped-decorator]
def sixteen(
    _: Any,
    out: Any,
    state: Any,
    words: Any,
    slots: Any,
    buckets: Any,
    lanes: Any,
    table: Any,
    lane: Any,
    done: Any,
    place: Any,
    raws: Any,
    step: Any,
) -> Any:
    """Decode 16 elements of one row, of lanes from ``lane`` on; return the position in the words.

    The arguments are those of the kernel's own step. At least 32 words follow ``place``, and two more these.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, b, signature, arguments, int(LANES))
        lanes, table, lane, done, place, raws, step = arguments[_BUCKETS + 1 :]
        x, trellis = v.load(_STATE, lane, v.u32), v.load(_STATE, b.add(lanes, lane), v.u32)
        low, one = v.every(SLOTS - 1, v.u32), v.every(1, v.u32)
        precision = v.every(PRECISION, v.u32)
        second = b.and_(trellis, one)
        index = b.or_(b.shl(second, precision), b.and_(x, low))
        slot = _gather(v, v.pointer(_SLOTS, table, ir.IntType(32)), index, 4)
        frequency = b.add(b.and_(slot, low), one)
        x = b.add(b.mul(frequency, b.lshr(x, precision)), b.and_(b.lshr(slot, precision), low))
        magnitude = b.and_(b.lshr(slot, v.every(24, v.u32)), v.every(127, v.u32))
        due = b.icmp_unsigned("<", x, v.every(LOW, v.u32))
        has_raw = b.icmp_unsigned(">=", magnitude, v.every(SINGLE, v.u32))
        some = b.and_(b.icmp_unsigned("!=", raws, ir.IntType(64)(0)), _any(v, has_raw))
        next_words = v.pointer(_WORDS, place, ir.IntType(16))
        with b.if_else(some) as (then, otherwise):
            with then:
                bucket = _gather(v, v.pointer(_BUCKETS, ir.IntType(64)(0), ir.IntType(32)), magnitude, 4)
                with_raw = (*_raw_words(v, next_words, due, x, bucket), b.block)
            with otherwise:
                without = (*_spread_words(v, next_words, due, x), magnitude, b.block)
        merged = []
        for raw, plain in zip(with_raw[:3], without[:3], strict=True):
            phi = b.phi(raw.type)
            phi.add_incoming(raw, with_raw[3])
            phi.add_incoming(plain, without[3])
            merged.append(phi)
        x, count, magnitude = merged
        v.store(_STATE, lane, x)
        following = b.or_(b.shl(trellis, one), b.and_(magnitude, one))
        of = ir.Constant(v.u32, [after for pair in NEXT for after in pair])
        v.store(_STATE, b.add(lanes, lane), v.call("llvm.x86.avx512.permvar.si.512", [v.u32, v.u32], of, following))
        odd = b.and_(second, b.zext(b.icmp_unsigned("!=", magnitude, v.every(0, v.u32)), v.u32))
        whole = b.sub(b.shl(magnitude, one), odd)
        value = b.fmul(b.sitofp(whole, v.f32), v.spread(step))
        v.store(_OUT, done, b.xor(v.bits(value), b.and_(slot, v.every(1 << 31, v.u32))))
        return b.add(place, count)

    return types.uint64(out, state, words, slots, buckets, lanes, table, lane, done, place, raws, step), generate
