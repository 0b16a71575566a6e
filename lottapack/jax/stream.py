"""The stream in JAX's own operations (spec: stream, sections 1 to 4 and 6): any elements, on any device, in any jit.

All arithmetic is on uint32, so that nothing depends on JAX's 64-bit mode, on rounding or on subnormal numbers: a number
of 64 bits is a pair of its high and low half. Values are looked up as bits in the scaled table.
"""

from functools import partial
from math import prod
from typing import Any

import jax
import numpy as np

from lottapack.jax.parts import Part
from lottapack.rng import Source, hadamard, reference, scaled_bits, selfcheck
from lottapack.rng.stream import COUNTERS, MULTIPLIERS, ROUNDS, WEYL, WORD_BITS, WORDS

Array = Any
Halves = tuple[Array, Array]
"""The high and the low 32 bits of numbers."""

_LOW = 0xFFFFFFFF
_HALF, _HALF_BITS = np.uint32(0xFFFF), np.uint32(16)


def elements(source: Source, shape: tuple[int, ...], start: int, part: Part, device: "jax.Device | None") -> Array:
    """Return a part of a tensor of a source as an array on a device; without one, where JAX's defaults say.

    ``start``: the number of the tensor's first element. Raises DeviceError for a kind of device that fails the known
    answers.
    """
    _ensure(device)
    return _made(source, shape, start, part, device)


def _ensure(device: "jax.Device | None") -> None:
    """Test a kind of device once, also while a jit traces the caller."""

    def compute(source: Source, start: int, count: int) -> int:
        with jax.ensure_compile_time_eval():
            found = np.asarray(_made(source, (count,), start, (slice(0, count),), place))
        return reference.fingerprint(found.view(f"u{found.itemsize}"), start)

    with jax.ensure_compile_time_eval():
        place = device or next(iter(jax.numpy.zeros(()).devices()))
    selfcheck.ensure("jax", f"{place.platform} {place.device_kind}", compute)


def _made(source: Source, shape: tuple[int, ...], start: int, part: Part, device: "jax.Device | None") -> Array:
    """As elements(), on a device that was tested."""
    ranges = [one.indices(size)[:2] for one, size in zip(part, shape, strict=True)]
    sizes = tuple(last - first for first, last in ranges)
    if 0 in sizes:
        return jax.numpy.zeros(sizes, source.dtype, device=device)
    table = scaled_bits(source.table, source.scale, source.dtype)
    inputs: tuple[Any, ...]
    if source.matrix is not None:
        firsts = tuple(np.uint32(first) for first, _ in ranges)
        make = partial(_of_hadamard, shape=shape, sizes=sizes, dtype=source.dtype)
        inputs = (table, *hadamard.codes_of(source), firsts)
    else:
        strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
        first = start + sum(begin * stride for (begin, _), stride in zip(ranges, strides, strict=True))
        make = partial(_of_table, sizes=sizes, steps=tuple(strides), bits=source.table.bits, dtype=source.dtype)
        inputs = (table, np.array(source.halves, np.uint32), (np.uint32(first >> 32), np.uint32(first & _LOW)))
    return make(*(inputs if device is None else jax.device_put(inputs, device)))


@partial(jax.jit, static_argnames=("sizes", "steps", "bits", "dtype"))
def _of_table(
    table: Array,
    halves: Array,
    first: Halves,
    *,
    sizes: tuple[int, ...],
    steps: tuple[int, ...],
    bits: int,
    dtype: str,
) -> Array:
    """Return elements from number ``first`` on; ``steps``: from one to the next in each dimension."""
    index = _indices(halves, bits, *_numbers(first, sizes, steps))
    return jax.lax.bitcast_convert_type(_looked_up(table, index), dtype)


@partial(jax.jit, static_argnames=("shape", "sizes", "dtype"))
def _of_hadamard(
    table: Array,
    along: Array,
    across: Array,
    firsts: tuple[Array, ...],
    *,
    shape: tuple[int, ...],
    sizes: tuple[int, ...],
    dtype: str,
) -> Array:
    """Return a part of a signed Hadamard matrix from codes of its sides; ``firsts``: where it begins on each side."""
    places = [jax.lax.broadcasted_iota(np.uint32, sizes, axis) + first for axis, first in enumerate(firsts)]
    row = places.pop(0) if len(shape) > 1 else np.uint32(0)
    column = np.uint32(0)
    for place, size in zip(places, shape[len(shape) - len(places) :], strict=True):
        column = column * np.uint32(size) + place
    rows, columns = shape[0] if len(shape) > 1 else 1, prod(shape[1:] if len(shape) > 1 else shape)
    long, short = (column, row) if columns >= rows else (row, column)
    tile = long // np.uint32(hadamard.order(rows, columns))
    odd = jax.lax.population_count(_looked_up(along, long) & _looked_up(across, tile, short)) & np.uint32(1)
    return jax.lax.bitcast_convert_type(_looked_up(table, odd), dtype)


def _looked_up(table: Array, *index: Array) -> Array:
    return jax.numpy.asarray(table).at[index].get(mode="promise_in_bounds")


def _indices(halves: Array, bits: int, high: Array, low: Array) -> Array:
    """Return the index of each element into the table, by the elements' numbers."""
    fields = WORD_BITS // bits
    place = low & np.uint32(WORDS - 1)
    quotient = _right((high, low), WORDS.bit_length() - 1)
    block = _right(quotient, fields.bit_length() - 1)
    high, low = _left(block, COUNTERS.bit_length() - 1)
    words = _philox(halves, high, low | place & np.uint32(COUNTERS - 1))
    word = jax.lax.select_n((place // np.uint32(COUNTERS)).astype(np.int32), *words)
    shift = (quotient[1] & np.uint32(fields - 1)) * np.uint32(bits)
    return (word >> shift) & np.uint32(2**bits - 1)


def _philox(halves: Array, high: Array, low: Array) -> tuple[Array, Array, Array, Array]:
    """Return the four output words of counters; ``halves``: those of the key and the stream."""
    k0, k1, c2, c3 = (halves[place] for place in range(4))
    c0, c1 = low, high
    c1, c2, c3 = (jax.numpy.broadcast_to(word, c0.shape) for word in (c1, c2, c3))
    for _ in range(ROUNDS):
        (h0, l0), (h1, l1) = _times(MULTIPLIERS[0], c0), _times(MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
        k0, k1 = k0 + np.uint32(WEYL[0]), k1 + np.uint32(WEYL[1])
    return c0, c1, c2, c3


def _numbers(first: Halves, sizes: tuple[int, ...], steps: tuple[int, ...]) -> Halves:
    """Return the numbers of elements that lie in steps from the first one."""
    numbers = first
    for axis, (size, step) in enumerate(zip(sizes, steps, strict=True)):
        along = [1] * len(sizes)
        along[axis] = size
        places = jax.lax.iota(np.uint32, size).reshape(along)
        high, low = _times(step & _LOW, places)
        numbers = _plus(numbers, (high + np.uint32(step >> 32) * places, low))
    return numbers


def _times(factor: int, words: Array) -> Halves:
    """Return products with a factor of 32 bits."""
    low, high = np.uint32(factor & 0xFFFF), np.uint32(factor >> 16)
    first, second = words & _HALF, words >> _HALF_BITS
    upper = second * low + (first * low >> _HALF_BITS)
    middle = first * high + (upper & _HALF)
    return second * high + (upper >> _HALF_BITS) + (middle >> _HALF_BITS), words * np.uint32(factor)


def _plus(one: Halves, other: Halves) -> Halves:
    low = one[1] + other[1]
    return one[0] + other[0] + (low < other[1]).astype(np.uint32), low


def _left(number: Halves, by: int) -> Halves:
    """Shift by 1 to 31 bits."""
    high, low = number
    return high << np.uint32(by) | low >> np.uint32(32 - by), low << np.uint32(by)


def _right(number: Halves, by: int) -> Halves:
    """Shift by 1 to 31 bits."""
    high, low = number
    return high >> np.uint32(by), low >> np.uint32(by) | high << np.uint32(32 - by)
