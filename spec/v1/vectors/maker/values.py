"""Binary32 values, their bits in a dtype, and the fingerprint: tables.md and fingerprint.md."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .stream import hadamard_indices, indices
from .tables import F32

Bits = NDArray[Any]  # uint32 for float32, uint16 for bfloat16 and float16
GOLDEN = 0x9E3779B97F4A7C15


def to_bits(values: F32, dtype: str) -> Bits:
    """Round binary32 values to ``dtype`` (nearest, ties to even); the bits, same shape."""
    u = values.astype(np.float32).view(np.uint32)
    if dtype == "float32":
        return u
    if dtype == "bfloat16":
        return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)
    with np.errstate(over="ignore"):
        return values.astype(np.float16).view(np.uint16)


def from_bits(bits: Bits, dtype: str) -> F32:
    """The binary32 values of bits in ``dtype``: exact."""
    if dtype == "float32":
        return bits.view(np.float32)
    if dtype == "bfloat16":
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return bits.view(np.float16).astype(np.float32)


def little_endian(bits: Bits) -> bytes:
    """The bytes of a tensor, as they are hashed and stored."""
    return bits.astype(bits.dtype.newbyteorder("<")).tobytes()


def hex_digits(bits: Bits) -> list[str]:
    """Each element's bits in hexadecimal, two digits a byte."""
    return [f"{b:0{2 * bits.dtype.itemsize}x}" for b in bits.ravel().tolist()]


def elements(
    seed: int, name: str, table: F32, scale: float, dtype: str, start: int, count: int, shape: list[int] | None = None
) -> Bits:
    """The bits of elements ``start`` to ``start + count - 1`` of a generated tensor, shape (count,).

    ``shape``: that of the tensor, if its distribution is ``hadamard``.
    """
    bits = len(table).bit_length() - 1
    found = indices(seed, name, bits, start, count)
    if shape is not None:
        found = hadamard_indices(seed, name, shape, start, count)
    entries = table[found.astype(np.int64)]
    with np.errstate(over="ignore", under="ignore"):
        return to_bits(entries * np.float32(scale), dtype)


def fingerprint(bits: Bits, start: int = 0) -> str:
    """The fingerprint of a piece of a tensor whose first element is element ``start``."""
    flat = bits.ravel().astype(np.uint64)
    i = start + np.arange(len(flat), dtype=np.uint64)
    z = flat ^ (i * np.uint64(GOLDEN))
    z = (z ^ (z >> 30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> 27)) * np.uint64(0x94D049BB133111EB)
    return f"{int((z ^ (z >> 31)).sum(dtype=np.uint64)):016x}"
