"""Kernels that look up the elements of whole blocks, and generate the next block's words meanwhile.

Look-ups keep the units for addresses and integers busy, and words those for vectors. A processor only looks some
hundred instructions ahead, which is less than one step of either. So on processors that need both, their instructions
alternate: a round of Philox for the counters that fit the registers, then a tenth of the look-ups (decision 0085).
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lottapack.rng.kernels.compiler import jit
from lottapack.rng.kernels.machine import processor
from lottapack.rng.kernels.vectors import Vectors
from lottapack.rng.kernels.words import TOGETHER, generate_words, halves, narrowed, philox
from lottapack.rng.stream import COUNTERS, ROUNDS, WORDS

u64 = np.uint64

_32, _LOW32 = u64(32), u64(0xFFFFFFFF)
_COUNTERS, _WORDS, _STEP = u64(COUNTERS), u64(WORDS), u64(TOGETHER)
_ARM64 = processor().is_arm64
_LANES = 4 if processor().has("avx2") else 2
"""The 64-bit lanes of a register."""
_ALTERNATE = not _ARM64 and not processor().has("avx512f")
"""Whether look-ups and words alternate. With AVX-512 the formula serves the largest table; on arm64 it is untried."""


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(_: Any, array: Any, index: Any) -> Any:
    """Prefetch the cache line of ``array[index]`` for writing; an index past the end is harmless."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        Vectors(context, builder, signature, arguments, 1).prefetch(0, arguments[1])
        return context.get_dummy_value()

    return types.void(array, index), generate


@jit
def look_up_block(out: Any, words: Any, table: Any, bits: Any) -> None:
    """Look up all elements of one block."""
    if bits == u64(16):
        _look_up_parts(out, words.view(np.uint16), table, u64(2))
    elif bits == u64(8) and _ARM64:  # elsewhere this takes longer than two or four elements a store
        _look_up_parts(out, words.view(np.uint8), table, u64(4))
    else:
        _look_up_fields(out.view(u64), words.view(u64), table, bits, u64(8 // out.itemsize))


@jit
def _look_up_parts(out: Any, parts: Any, table: Any, count: Any) -> None:
    """Look up the elements of one block by indices that are halves or bytes of words: ``count`` parts of a word."""
    line = u64(64 // out.itemsize)
    for part in range(u64(0), count):
        begin = part * _WORDS
        for first in range(u64(0), _WORDS, line):
            prefetch(out, begin + first + _WORDS)
            for i in range(first, first + line):
                out[begin + i] = table[parts[count * i + part]]


@jit
def _look_up_fields(out: Any, words: Any, table: Any, bits: Any, pair: Any) -> None:
    """Look up the elements of one block by shorter indices. ``out``, ``words``: as uint64.

    ``pair``: elements in 64 bits, 2 or 4.
    """
    mask, run, begin = (u64(1) << bits) - u64(1), _WORDS // pair, u64(0)
    for shift in range(u64(0), _32, bits):
        for line in range(u64(0), run, u64(8)):
            prefetch(out, begin + line + run)
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


def _turn(bits: int) -> Any:
    """Return the intrinsic that looks up elements by indices of ``bits`` bits while it generates words."""
    fields = 32 // bits

    @intrinsic  # type: ignore[untyped-decorator]
    def turn(
        _: Any,
        out: Any,
        words: Any,
        table: Any,
        following: Any,
        first: Any,
        low: Any,
        high: Any,
        s0: Any,
        s1: Any,
        k0: Any,
        k1: Any,
    ) -> Any:
        """Write the words of counters ``low + first`` to ``following``, TOGETHER counters in all.

        Look up the elements of as many words of the block before, from ``words[4 * first]`` on.
        """

        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            first, low, *scalars = arguments[4:]
            word = ir.IntType(64)
            v, few = (Vectors(context, b, signature, arguments, lanes) for lanes in (TOGETHER, TOGETHER // 2))
            width = v.types[0].dtype.bitwidth
            index, entry, many = ir.IntType(bits), ir.IntType(width), 64 // width
            start, run = b.mul(first, word(WORDS // COUNTERS)), TOGETHER * WORDS // COUNTERS
            indices = v.pointer(1, start, index)

            def look_up(field: int, place: int) -> None:
                """Store as many elements as 64 bits hold."""
                total = word(0)
                for n in range(many):
                    where = b.gep(indices, [word(fields * (place + n) + field)])
                    chosen = b.load(v.pointer(2, b.zext(b.load(where), word), entry))
                    total = b.or_(total, b.shl(b.zext(chosen, word), word(width * n)))
                v.store(0, b.add(start, word(WORDS * field + place)), total)

            due = [(field, place) for field in range(fields) for place in range(0, run, many)]
            lines = [(field, place) for field in range(fields) for place in range(0, run, 512 // width)]

            def between(number: int, c0: Any, c2: Any) -> tuple[Any, Any]:
                for field, place in _share(lines, number):
                    v.prefetch(0, b.add(start, word(WORDS * (fields + field) + place)))  # of the next block
                for field, place in _share(due, number):
                    look_up(field, place)
                return c0 if number == 0 else v.held(c0, _LANES), v.held(c2, _LANES)

            counters = [*range(0, TOGETHER, 2), *range(1, TOGETHER, 2)]  # as narrowed() joins them
            c0 = b.add(v.spread(b.add(low, first)), ir.Constant(ir.VectorType(word, TOGETHER), counters))
            for lane, found in enumerate(philox(v, c0, *scalars, between=between)):
                v.store(3, b.add(first, word(COUNTERS * lane)), narrowed(few, *halves(b, found)))
            return context.get_dummy_value()

        return types.void(out, words, table, following, first, low, high, s0, s1, k0, k1), generate

    return turn


def _share(all_: list[Any], number: int) -> list[Any]:
    """Return what of a list is due in a round."""
    return all_[len(all_) * number // ROUNDS : len(all_) * (number + 1) // ROUNDS]


_turn8, _turn16 = _turn(8), _turn(16)


@jit
def look_up_and_generate(
    out: Any, words: Any, table: Any, bits: Any, following: Any, block: Any, k0: Any, k1: Any, s0: Any, s1: Any
) -> None:
    """Look up all elements of one block by its ``words``, and fill ``following`` with the words of ``block``."""
    if _ALTERNATE:  # numba compiles this only where it holds
        first = block * _COUNTERS
        low, high = first & _LOW32, first >> _32
        if bits == u64(16):
            for t in range(u64(0), _COUNTERS, _STEP):
                _turn16(out, words, table, following, t, low, high, s0, s1, k0, k1)
            return
        if bits == u64(8):
            for t in range(u64(0), _COUNTERS, _STEP):
                _turn8(out, words, table, following, t, low, high, s0, s1, k0, k1)
            return
    look_up_block(out, words, table, bits)
    generate_words(following, block, k0, k1, s0, s1)
