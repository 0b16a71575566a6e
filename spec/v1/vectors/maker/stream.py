"""From seed, name and position to indices: stream.md, sections 2 to 5."""

import hashlib
from functools import cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .philox import hi32, lo32, philox4x32

U64 = NDArray[np.uint64]


def stream_of(name: str) -> int:
    """The stream of a tensor: the first eight bytes of the SHA-256 of its name, little-endian."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


@cache
def block_of_words(seed: int, name: str, block: int) -> U64:
    """The 1,024 words of a block: 256 counters, lane after lane."""
    key, stream = (lo32(seed), hi32(seed)), stream_of(name)
    counters = np.array([256 * block + p for p in range(256)], np.uint64)
    return np.concatenate(philox4x32((lo32(counters), hi32(counters), lo32(stream), hi32(stream)), key))


def indices(seed: int, name: str, bits: int, start: int, count: int) -> U64:
    """The table indices of elements ``start`` to ``start + count - 1``, ``bits`` bits each."""
    fields = 32 // bits
    i = start + np.arange(count, dtype=np.uint64)
    p, q = i & 1023, i >> 10
    b, f = q // fields, q % fields
    words = np.zeros(count, np.uint64)
    for block in np.unique(b):
        here = b == block
        words[here] = block_of_words(seed, name, int(block))[p[here]]
    index: U64 = (words >> (bits * f)) & (2**bits - 1)
    return index


def hadamard_indices(seed: int, name: str, shape: list[int], start: int, count: int) -> U64:
    """The table indices of elements of a signed Hadamard matrix: section 6."""
    rows, columns = shape[0] if len(shape) > 1 else 1, prod(shape[1:] if len(shape) > 1 else shape)
    long, short = max(rows, columns), min(rows, columns)
    size = next(2**m for m in range(30, -1, -1) if long % 2**m == 0)
    if size < short:
        size = next(2**m for m in range(31) if 2**m >= long)
    stream = stream_of(name)
    w = philox4x32((0, 2**30, lo32(stream), hi32(stream)), (lo32(seed), hi32(seed)))
    tiles = -(-long // size)
    signs = indices(seed, name, 1, 0, long + tiles * short).tolist()
    found = []
    for i in range(start, start + count):
        row, column = divmod(i, columns)
        along, across = (column, row) if columns >= rows else (row, column)
        x = ((w[0] | 1) * (along % size) + w[1]) % size
        y = ((w[2] | 1) * across + w[3]) % size
        sign = signs[along] + signs[long + along // size * short + across]
        found.append((bin(x & y).count("1") + sign) % 2)
    return np.array(found, np.uint64)


STREAM_NAMES = {
    "a linear layer": "0.weight",
    "a name without a point": "weight",
    "one letter": "a",
    "a transformer": "model.layers.11.self_attn.q_proj.weight",
    "a long name": "block." * 40 + "weight",
    "the longest name, 1,024 bytes": "n" * 1024,
    "spaces": " two words ",
    "quotes": "a\"b'c",
    "Latin": "größe.weight",
    "Chinese": "层.0.权重",
    "Arabic": "طبقة.وزن",
    "Hangul, composed": "층.0.가중치",
    "outside the basic plane": "🎲.weight",
}


def known_answers() -> dict[str, Any]:
    """``streams.json``: the streams of names of all kinds."""
    return {
        "cases": [{"why": why, "name": name, "stream": f"{stream_of(name):016x}"} for why, name in STREAM_NAMES.items()]
    }
