"""Decoding of coded tensors: codings.md."""

import zlib

import numpy as np
from numpy.typing import NDArray

from . import trellis
from .pack import TYPES, Tensor
from .values import from_bits, little_endian, to_bits

LEVELS = [-127, -90, -69, -53, -39, -27, -16, -5, 5, 16, 27, 39, 53, 69, 90, 127]
BLOCK = 64


def scales_tensor(words: list[int]) -> Tensor:
    """Scales from the bits of their float16 numbers."""
    return Tensor("float16", [len(words)], np.array(words, "<u2").tobytes())


def int8_tensor(codes: list[int]) -> Tensor:
    """The codes of ``int8-block64``."""
    return Tensor("int8", [len(codes)], np.array(codes, "i1").tobytes())


def nibbles(codes: list[int]) -> Tensor:
    """The codes of ``normal4-block64``, two to a byte, the first in the low half."""
    padded = codes + [0] * (len(codes) % 2)
    data = bytes(low | high << 4 for low, high in zip(padded[::2], padded[1::2], strict=True))
    return Tensor("uint8", [len(data)], data)


def blocks(integers: list[int], scales: Tensor, dtype: str) -> bytes:
    """Integers times the scales of their blocks, in ``dtype``."""
    words: NDArray[np.uint16] = np.frombuffer(scales.data, "<u2")
    wide = from_bits(words, "float16")
    factors = np.array([wide[i // BLOCK] for i in range(len(integers))], np.float32)
    return little_endian(to_bits(np.array(integers, np.float32) * factors, dtype))


def decode(coding: str, dtype: str, shape: list[int], codes: Tensor, scales: Tensor | None) -> bytes:
    """The bytes of a parameter."""
    count = int(np.prod(shape, dtype=int))
    if coding == "trellis8":
        return trellis.decode(codes.data, shape, dtype)
    if coding in ("float16", "bfloat16"):
        return little_endian(to_bits(from_bits(np.frombuffer(codes.data, "<u2"), coding), "float32"))
    if coding == "planes-zlib":
        size = TYPES[dtype][1]
        planes = zlib.decompress(codes.data)
        return bytes(planes[j * count + i] for i in range(count) for j in range(size))
    assert scales is not None
    if coding == "int8-block64":
        return blocks(np.frombuffer(codes.data, "i1").tolist(), scales, dtype)
    indices = [(codes.data[i // 2] >> (4 * (i & 1))) & 15 for i in range(count)]
    return blocks([LEVELS[index] for index in indices], scales, dtype)


def planes(data: bytes, size: int) -> bytes:
    """The byte planes of elements of ``size`` bytes."""
    return b"".join(data[j::size] for j in range(size))


def stream(data: bytes) -> Tensor:
    """A zlib stream of blocks that are not compressed: the same bytes from every compressor."""
    return as_stream(zlib.compress(data, 0))


def as_stream(data: bytes) -> Tensor:
    """Bytes as the codes of ``planes-zlib``."""
    return Tensor("uint8", [len(data)], data)
