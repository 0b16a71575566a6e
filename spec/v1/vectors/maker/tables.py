"""The built-in tables: tables.md, section 1."""

import hashlib
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .quantile import upper_quantile

F32 = NDArray[np.float32]
BITS = {"normal16": 16, "normal8": 8, "normal4": 4, "normal2": 2, "uniform16": 16, "sign1": 1, "hadamard": 1}
NORMAL16_SHA256 = "1cfbba1e07e34386a57626f82aeb43e6ed54ba70a3ea6b7d964dc66a841074a8"  # the page gives it


@cache
def builtin(table_id: str) -> F32:
    """The entries of a built-in table, shape (2**bits,)."""
    size = 2 ** BITS[table_id]
    if BITS[table_id] == 1:
        return np.array([-1, 1], np.float32)
    if table_id == "uniform16":
        n = np.arange(size)
        return np.array((2 * n + 1 - size) / size, np.float32)
    upper = np.array([upper_quantile(2 * n + 1, 2 * size) for n in range(size // 2, size)], np.float32)
    return np.concatenate([-upper[::-1], upper])


def little_endian(entries: F32) -> bytes:
    """The bytes of a table, as they are hashed and stored."""
    return entries.astype("<f4").tobytes()


def sha256(entries: F32) -> str:
    """The SHA-256 of a table, 64 hexadecimal digits."""
    return hashlib.sha256(little_endian(entries)).hexdigest()


def hex32(entries: F32) -> list[str]:
    """Each entry's bits in 8 hexadecimal digits."""
    return [f"{bits:08x}" for bits in entries.view(np.uint32).tolist()]


def known_answers() -> dict[str, Any]:
    """``tables.json``: digests, and entries to look at when a digest differs."""
    cases = []
    for table_id, bits in BITS.items():
        entries, size = builtin(table_id), 2**bits
        words = hex32(entries)
        shown = (
            range(size)
            if size <= 16
            else sorted(
                {
                    *range(4),
                    size // 4,
                    size // 3,
                    *range(size // 2 - 3, size // 2 + 3),
                    size * 3 // 4,
                    *range(size - 4, size),
                }
            )
        )
        cases.append(
            {"id": table_id, "bits": bits, "sha256": sha256(entries), "entries": {str(n): words[n] for n in shown}}
        )
    assert sha256(builtin("normal16")) == NORMAL16_SHA256
    return {"tables": cases}
