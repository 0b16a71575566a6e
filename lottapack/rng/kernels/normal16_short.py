"""Kernels for ``normal16`` in bfloat16, for 512-bit vectors, by a short formula that is fitted to each scale.

Profiling showed (one thread of Zen 5, nanoseconds a weight in the L1 cache; decision 0028):

- The words take 0.08 and the two passes 0.14; those of float32 take 0.22. A vector needs six two-register permutations
  instead of ten, six fused operations instead of eleven, and no check of whether a result is certain.
- Words are stored in pairs: those with an even index in one vector, those with an odd index in another. Two
neighbouring
  elements then end in the halves of one lane, so shifts replace permutations.
- Signs and distances from the middle are computed for both halves of a lane at once.
- LLVM would turn these masks and shifts into permutations and comparisons, which took 1.15 times as long in all; hence
  ``Vectors.logic``.
- ``vcvtne2ps2bf16`` occupies the units as long as the additions and the shift that it would replace.
- The cache line of the output is prefetched half a block ahead, because a pass is shorter than the memory's latency.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lottapack.rng.kernels.compiler import jit, space
from lottapack.rng.kernels.vectors import Rows, Vectors
from lottapack.rng.quantile import QUADRATIC, SHORT_DEGREE
from lottapack.rng.stream import WORDS

u32, u64 = np.uint32, np.uint64

LANES = 16
"""The number of elements in a vector."""

T, PIECE, PACKED = WORDS, 2 * WORDS, 3 * WORDS
"""The offsets in the working space of the numbers that the first pass leaves for the second; the words are at 0."""

working_space = space(PACKED + WORDS // 2)
"""The size of the working space of a block, in uint32. It is one array, because each array argument takes time."""

_WORDS = u64(WORDS)
_SHIFT = 16
"""The shift of the upper field of a word."""


def _packed(v: Vectors, even: Any, odd: Any, upper: bool) -> Any:
    """Combine the fields of two vectors of words: elements 2 n and 2 n + 1 in the halves of lane n."""
    b = v.builder
    if upper:
        low = b.lshr(even, v.every(_SHIFT, v.u32))
        return v.logic(lambda low, odd, mask: low | odd & mask, low, odd, v.every(0xFFFF0000, v.u32))
    high = b.shl(odd, v.every(_SHIFT, v.u32))
    return v.logic(lambda even, high, mask: even & mask | high, even, high, v.every(0xFFFF, v.u32))


def _distances(v: Vectors, packed: Any) -> list[Any]:
    """Return ``f`` of the even and of the odd elements: 1 + k / 65536 for the k-th index on its side of the middle."""
    b, pairs = v.builder, ir.VectorType(ir.IntType(16), 2 * LANES)
    fifteen = ir.Constant(pairs, [ir.Constant(pairs.element, 15)] * (2 * LANES))
    above = b.bitcast(b.ashr(b.bitcast(packed, pairs), fifteen), v.u32)
    k = v.logic(lambda n, above, mask: (n ^ ~above) & mask, packed, above, v.every(0x7FFF7FFF, v.u32))
    places = b.shl(k, v.every(23 - 16, v.u32)), b.lshr(k, v.every(16 - (23 - 16), v.u32))
    mask, one = v.every(0x7FFF << (23 - 16), v.u32), v.every(0x3F800000, v.u32)
    return [b.bitcast(v.logic(lambda k, mask, one: k & mask | one, place, mask, one), v.f32) for place in places]


def _first(upper: bool) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def first(_: Any, work: Any, rows: Any, out: Any, begin: Any) -> Any:
        """Compute the formula's first half for one field of all words, and prefetch the lines after ``out[begin:]``."""

        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            v, word = Vectors(context, b, signature, arguments, LANES), ir.IntType(64)
            centre = Rows(v, 1, 0, 1)
            square, linear, constant = (v.every(value, v.f32) for value in QUADRATIC)
            with v.steps(WORDS, 2) as at:
                v.prefetch(2, b.add(b.add(arguments[3], at), word(WORDS)))  # 32 elements fill a cache line
                places = at, b.add(at, word(LANES))
                even, odd = (v.load(0, place, v.u32) for place in places)
                indices = _packed(v, even, odd, upper)
                v.store(0, b.add(b.lshr(at, word(1)), word(PACKED)), indices)
                for place, f in zip(places, _distances(v, indices), strict=True):
                    number = b.lshr(v.bits(v.fma(f, v.fma(f, square, linear), constant)), v.every(22, v.u32))
                    v.store(0, b.add(place, word(T)), b.fsub(f, centre.choose(0, number)))
                    v.store(0, b.add(place, word(PIECE)), number)
            return context.get_dummy_value()

        return types.void(work, rows, out, begin), generate

    return first


_first_lower, _first_upper = _first(False), _first(True)


@intrinsic  # type: ignore[untyped-decorator]
def _second(_: Any, work: Any, rows: Any, out: Any, begin: Any) -> Any:
    """Compute the formula's second half: polynomial, rounding to 16 bits and sign."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v, word = Vectors(context, b, signature, arguments, LANES), ir.IntType(64)
        table = Rows(v, 1, 1, SHORT_DEGREE + 1)
        with v.steps(WORDS, 2) as at:
            rounded = []
            for place in (at, b.add(at, word(LANES))):
                t, number = v.load(0, b.add(place, word(T)), v.f32), v.load(0, b.add(place, word(PIECE)), v.u32)
                magnitude = table.polynomial(t, number, 0)
                rounded.append(b.add(v.bits(magnitude), v.every(0x8000, v.u32)))
            even, odd = b.lshr(rounded[0], v.every(16, v.u32)), rounded[1]
            both = v.logic(lambda even, odd, mask: even | odd & mask, even, odd, v.every(0xFFFF0000, v.u32))
            indices = v.load(0, b.add(b.lshr(at, word(1)), word(PACKED)), v.u32)
            signed = v.logic(lambda both, n, sign: both | ~n & sign, both, indices, v.every(0x80008000, v.u32))
            v.store(2, b.add(arguments[3], at), signed)
        return context.get_dummy_value()

    return types.void(work, rows, out, begin), generate


@jit
def short16(out: Any, work: Any, rows: Any) -> None:
    """Compute the bfloat16 elements that the words of a block serve, by a formula fitted to the scale.

    ``out``: shape (2048,), uint16. ``work``: working_space() with the words of generate_pairs(). ``rows``: the result
    of fits.fitted().
    """
    _first_lower(work, rows, out, u64(0))
    _second(work, rows, out, u64(0))
    _first_upper(work, rows, out, _WORDS)
    _second(work, rows, out, _WORDS)
