"""The stream exactly as the spec defines it, in NumPy. It is slow on purpose; other code is compared with it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lottapack.rng.stream import Source

Array = npt.NDArray[Any]


def philox4x32(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Return four output words of Philox 4x32-10 (spec: stream, section 1): integers, or uint64 arrays of one shape."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0 = 0xD2511F53 * c0
        p1 = 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & 0xFFFFFFFF, (p0 >> 32) ^ c3 ^ k1, p0 & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def words(source: Source, block: Array, place: Array) -> Array:
    """Return word ``place`` of ``block``: uint64, all of one shape (spec: stream, sections 2 and 3)."""
    return words_of(source.stream, source.key, block, place)


def words_of(stream: int, key: tuple[int, int], block: Array, place: Array) -> Array:
    """Return words() of the stream with a number."""
    j = 256 * block + (place & 255)
    low, high = np.full_like(j, stream & 0xFFFFFFFF), np.full_like(j, stream >> 32)
    lanes = philox4x32((j & 0xFFFFFFFF, j >> 32, low, high), key)
    return np.choose((place >> 8).astype(np.intp), lanes)


def elements(source: Source, start: int, count: int) -> Array:
    """Return the bits of elements ``start`` to ``start + count - 1``: shape (count,), uint32 or uint16 (section 4)."""
    i: Array = np.arange(count, dtype=np.uint64) + start
    index = hadamard_indices(source, i) if source.matrix else indices(source, source.table.bits, i)
    u: Array
    value = source.table.values[index] * np.float32(source.scale)
    if source.dtype == "float16":
        u = value.astype(np.float16).view(np.uint16)
    elif source.dtype == "bfloat16":
        u = value.view(np.uint32)
        u = ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)
    else:
        u = value.view(np.uint32)
    return u


def indices(source: Source, k: int, i: Array) -> Array:
    """Return the field of ``k`` bits of each element's word: uint64, shape (n,) (section 4)."""
    fields = 32 // k
    p = i & 1023
    q = i >> 10
    b = q // fields
    f = q % fields
    found: Array = (words(source, b, p) >> (k * f)) & (2**k - 1)
    return found


def hadamard_indices(source: Source, i: Array) -> Array:
    """Return the index of each element of a signed Hadamard matrix: uint64, shape (n,) (section 6)."""
    assert source.matrix is not None
    if not i.size:
        return i
    rows, columns = source.matrix
    long, short = max(rows, columns), min(rows, columns)
    n = 1
    while long % (2 * n) == 0:
        n *= 2
    if n < short:
        n = 1
        while n < long:
            n *= 2
    along, v = (i % columns, i // columns) if columns >= rows else (i // columns, i % columns)
    stream = source.stream
    w = philox4x32((0, 1 << 30, stream & 0xFFFFFFFF, stream >> 32), source.key)
    x = (along % n * (w[0] | 1) + w[1]) % n
    y = (v * (w[2] | 1) + w[3]) % n
    parity = np.bitwise_count(x & y) & 1
    found: Array = parity ^ indices(source, 1, along) ^ indices(source, 1, long + along // n * short + v)
    return found


def fingerprint(bits: Array, start: int = 0) -> int:
    """Return the fingerprint of ``bits``, shape (n,), whose first element has index ``start`` (spec: fingerprint)."""
    i: Array = np.arange(bits.size, dtype=np.uint64) + start
    z = bits ^ (i * 0x9E3779B97F4A7C15)
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return int((z ^ (z >> 31)).sum(dtype=np.uint64))
