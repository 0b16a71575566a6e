"""From seed, name and position to indices: stream.md, sections 2 to 5."""

import hashlib
from functools import cache
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
