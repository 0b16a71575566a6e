"""``codings.json``: coded tensors and what they decode to."""

import hashlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from . import deflate, deflate_codes, trellis
from .codings import as_stream, decode, int8_tensor, nibbles, planes, scales_tensor, stream
from .model import tensor
from .pack import Tensor

SHOWN = 400
DTYPES = ("float32", "bfloat16", "float16")
# A whole number, an odd significand, the least and the largest subnormal, the least normal number, 515.5.
SCALES = [0x3C00, 0x2E67, 0x0001, 0x03FF, 0x0400, 0x6007]
FIXED = bytes.fromhex(
    "78da636018daa081c1e1c20686030b1e2430243c58708061c3050786860f131a140e1c506898f08162e9fdfbecedf7efb7036206"
    "2003cab14788522a0d00709f5d91"
)
DYNAMIC = bytes.fromhex(
    "181905c1810084400004c04189a40d259443082184086e0f21844708e1670000000000000000000000000000000000000000000000"
    "0086e37dacfb773a7ff7f2bc87f15d635b6b1bd7371cef63ddbfd3f9bb97e73d8cef1adb5adbb8bee1781febfe9dcedfbd3cef61"
    "7cd7d8d6dac6f50d4767d2ee69259d49bb279d49bba79d49bba7957426ed9e7426ed9e7626ed9e56d299b47bd299b47bda993f709f5d91"
)
"""The planes of ``tensor("float32", 8, 12)`` as compressors write them, with fixed and with dynamic Huffman codes."""


def case(
    name: str, coding: str, dtype: str, shape: list[int], codes: Tensor, scales: Tensor | None = None
) -> dict[str, Any]:
    """One case; bytes as hexadecimal digits in the file's order."""
    made = decode(coding, dtype, shape, codes, scales)
    return {
        "case": name,
        "id": coding,
        "dtype": dtype,
        "shape": shape,
        "codes": codes.data.hex(),
        "scales": None if scales is None else scales.data.hex(),
        "decoded": made.hex() if len(made) <= SHOWN else None,
        "sha256": hashlib.sha256(made).hexdigest(),
    }


def of_blocks(dtype: str) -> Iterator[dict[str, Any]]:
    """The block codings: every code under every scale, lengths around a block, zeros."""
    every = [*range(-127, 128), 0]
    codes, scales = every * len(SCALES), [word for word in SCALES for _ in range(4)]
    yield case(
        "every code under six scales",
        "int8-block64",
        dtype,
        [len(codes)],
        int8_tensor(codes),
        scales_tensor(scales),
    )
    codes = [n % 16 for n in range(64)] * len(SCALES)
    yield case(
        "every code under six scales",
        "normal4-block64",
        dtype,
        [8, 48],
        nibbles(codes),
        scales_tensor(SCALES),
    )
    for count in (1, 63, 64, 65, 127):
        words = SCALES[: -(-count // 64)]
        codes = [(5 * n) % 255 - 127 for n in range(count)]
        yield case(f"{count} elements", "int8-block64", dtype, [count], int8_tensor(codes), scales_tensor(words))
        codes = [(5 * n) % 16 for n in range(count)]
        yield case(f"{count} elements", "normal4-block64", dtype, [count], nibbles(codes), scales_tensor(words))
    halves = scales_tensor([0, 0x3C00])
    yield case("a scale of zero", "int8-block64", dtype, [5, 13], int8_tensor([0] * 64 + [-127]), halves)
    yield case("a scale of zero", "normal4-block64", dtype, [5, 13], nibbles([8] * 64 + [0]), halves)
    last, first = "a scale of zero in the last block, which is short", scales_tensor([0x3C00, 0])
    yield case(last, "int8-block64", dtype, [65], int8_tensor([3] * 64 + [0]), first)
    yield case(last, "normal4-block64", dtype, [65], nibbles([3] * 64 + [8]), first)
    nothing = scales_tensor([])
    yield case("no elements", "int8-block64", dtype, [0, 3], int8_tensor([]), nothing)
    yield case("no elements", "normal4-block64", dtype, [0], nibbles([]), nothing)


def narrow() -> Iterator[dict[str, Any]]:
    """The narrower numbers: ends, subnormal numbers, both zeros."""
    halves = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x3C01, 0x7BFF, 0xFBFF]
    brains = [0x0000, 0x8000, 0x0001, 0x807F, 0x0080, 0x3F81, 0x7F7F, 0xFF7F]
    for coding, words in (("float16", halves), ("bfloat16", brains)):
        yield case("ends", coding, "float32", [2, 4], Tensor(coding, [2, 4], np.array(words, "<u2").tobytes()))
        yield case("no elements", coding, "float32", [0], Tensor(coding, [0], b""))


def lossless() -> Iterator[dict[str, Any]]:
    """Byte planes of every element size, and each kind of DEFLATE block."""
    for dtype, size in {
        "float64": 8,
        "float32": 4,
        "bfloat16": 2,
        "float16": 2,
        "int64": 8,
        "uint8": 1,
        "bool": 1,
    }.items():
        made = tensor(dtype, 3, 5)
        yield case(f"planes of {dtype}", "planes-zlib", dtype, [3, 5], stream(planes(made.data, size)))
    yield case("no elements", "planes-zlib", "float32", [0, 2], stream(b""))
    yield case("fixed Huffman codes", "planes-zlib", "float32", [8, 12], as_stream(FIXED))
    yield case("dynamic Huffman codes, a window of 512 bytes", "planes-zlib", "float32", [8, 12], as_stream(DYNAMIC))
    for why, (data, given) in deflate.valid().items():
        yield case(why, "planes-zlib", "uint8", [len(given)], as_stream(data))
    nan = np.array([0x7FC00001, 0xFF800000, 0x80000000, 0x00000001], "<u4").tobytes()
    yield case("NaN, infinity, negative zero", "planes-zlib", "float32", [4], stream(planes(nan, 4)))


def of_trellis(dtype: str) -> Iterator[dict[str, Any]]:
    """Every symbol, steps, both orders, classes of rows, one lane and several."""

    def of(name: str, levels: list[int], shape: list[int], **given: Any) -> dict[str, Any]:
        return case(name, "trellis8", dtype, shape, trellis.codes(trellis.coded(levels, shape, **given)))

    some = [(7 * n) % 31 - 15 for n in range(65)]
    tiny = 0x1000 if dtype == "float16" else 0x0E00  # 2**-95
    step = 0x3000 if dtype == "float16" else 0x3E2B
    ends = [bound + n for bound in (16, 32, 64, 1024, 2**14) for n in (-1, 0, 1)] + [0, 2**15 - 1]
    yield of("every symbol", [sign * level for level in ends for sign in (1, -1)] * 2, [4, 17], step=step)
    yield of("an odd significand", some, [5, 13], step=0x3E2B)
    yield of("a small step", some, [65], step=tiny)
    yield of("column by column", some, [5, 13], order=1)
    yield of("three dimensions, column by column", some[:60], [5, 4, 3], order=1)
    yield of("three classes of rows", some, [5, 13], classes=[2, 0, 1, 0, 2])
    yield of("two classes of columns", some, [5, 13], order=1, classes=[n % 2 for n in range(13)])
    yield of("zeros", [0] * 12, [3, 4])
    yield of("one element", [-3], [])
    yield of("the last element before two lanes", [n * n % 23 - 11 for n in range(8191)], [8191])
    yield of("two lanes", [n * n % 23 - 11 for n in range(8193)], [3, 2731])
    yield of("four lanes", [n * n % 7 - 3 for n in range(16384)], [128, 128])


def borders() -> Iterator[dict[str, Any]]:
    """Every code of DEFLATE; classes, steps and lanes of ``trellis8`` at their borders."""
    for why, (data, given) in deflate_codes.valid().items():
        yield case(why, "planes-zlib", "uint8", [len(given)], as_stream(data))

    def of(name: str, levels: list[int], shape: list[int], **given: Any) -> dict[str, Any]:
        return case(name, "trellis8", "float32", shape, trellis.codes(trellis.coded(levels, shape, **given)))

    some = [(7 * n) % 31 - 15 for n in range(65)]
    yield of("one row of the second of two classes", some, [65], classes=[1])
    yield of("one dimension column by column, two classes", some, [65], order=1, classes=[n % 2 for n in range(65)])
    yield of("sixteen classes, an even number of rows", some[:64], [16, 4], classes=[*range(16)])
    yield of("the least step", some, [5, 13], step=0x0D80)
    yield of("the largest step", some, [5, 13], step=0x7180)
    yield of("64 lanes, the most", [0] * 2**19, [2**19])
    yield of("sixteen classes, an odd number of rows", some[:51], [17, 3], classes=[*range(16), 15])

    def by_tables(name: str, levels: list[int], shape: list[int], tables: list[list[int]]) -> dict[str, Any]:
        kinds = [*range(len(tables))] if len(tables) > 1 else [0] * len(levels)
        pairs = [table for table in tables for _ in (0, 1)]
        data = trellis.head(0x3E00, pairs, 0, kinds if len(tables) > 1 else None) + trellis.body(levels, kinds, pairs)
        return case(name, "trellis8", "float32", shape, trellis.codes(data))

    yield by_tables("shares of 127 and 129", [n % 16 for n in range(64)], [8, 8], [[127, 129, *[128] * 14]])
    high = [[2047, 1], [1023, 1025], [63, 1024, 961]]
    yield by_tables("a state of nearly 2**31", [-1, -1, 1], [3, 1], high)
    data, given = deflate_codes.long()
    yield case("planes of over 65,536 bytes", "planes-zlib", "float32", [len(given) // 4], as_stream(data))
    words = [0x3C04, 0x3C0C, 0x3C03, 0x3C05, 0x3C0B, 0x3C0D, 0x3C01, 0x3C02]
    codes = [sign * code for code in range(1, 33) for sign in (1, -1)] * len(words)
    for dtype in DTYPES:
        name = "products halfway between two numbers, and beside them"
        yield case(name, "int8-block64", dtype, [len(codes)], int8_tensor(codes), scales_tensor(words))


@cache
def known_answers() -> dict[str, Any]:
    """``codings.json``."""
    blocks = [made for dtype in DTYPES for made in of_blocks(dtype)]
    trellises = [made for dtype in DTYPES for made in of_trellis(dtype)]
    return {"cases": [*narrow(), *blocks, *trellises, *lossless(), *borders()]}
