"""The cases of ``elements.json``: every table, dtype and border of the stream."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from .tables import BITS, F32, builtin, hex32
from .values import elements, fingerprint, hex_digits, little_endian

DTYPES = ("float32", "bfloat16", "float16")
SHOWN = 64  # the values of longer cases are given by their digest alone
ODD_SCALE = 0.05103103816509247  # near 1/sqrt(384), a full significand

# A table is repeated until it has 2**bits entries: 251 words, a prime number, stand for 65,536.
CUSTOM: dict[int, list[float]] = {
    1: [0.0, 1.5],
    2: [-2.0, -0.3, 0.3, 2.0],
    4: [
        float(n)
        for n in [
            "-1",
            "-.7",
            "-.53",
            "-.39",
            "-.28",
            "-.18",
            "-.09",
            "0",
            ".08",
            ".16",
            ".25",
            ".34",
            ".44",
            ".56",
            ".72",
            "1",
        ]
    ],
    8: [(n - 127.5) ** 3 / 2.0**20 for n in range(256)],
    16: [(n - 125) / 7 for n in range(251)],
}
# Halfway between two bfloat16 numbers, and beside it; then the same for float16.
TIES = [0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001, 0x3F817FFF, 0x3F818001, 0xBF808000, 0xBF818000]
TIES += [0x3F801000, 0x3F803000, 0x3F800FFF, 0x3F801001, 0x3F802FFF, 0x3F803001, 0xBF801000, 0xBF803000]
# The ends of float16: the largest that stays finite, the least normal, and subnormal numbers down to ties with zero.
ENDS = [0x477FEFFF, 0xC77FEFFF, 0x38800000, 0x387FFFFF, 0x387FC000, 0x33800000, 0x33000000, 0x33000001]
ENDS += [0x33C00000, 0x33BFFFFF, 0x32FFFFFF, 0x00800000, 0x80800000, 0x00000000, 0xB3400000, 0x33400001]


def case(
    name: str,
    distribution: str,
    dtype: str,
    start: int = 0,
    count: int = 17,
    *,
    tensor: str = "0.weight",
    seed: int = 42,
    scale: float = ODD_SCALE,
    words: list[int] | None = None,
    shape: list[int] | None = None,
) -> dict[str, Any]:
    """One case.

    ``words``: the table's binary32 bits (repeated up to its size), or None for a built-in one. ``shape``: that of the
    tensor, where elements depend on it.
    """
    bits = BITS[distribution] if words is None else int(distribution.removeprefix("custom"))
    table: F32 = builtin(distribution) if words is None else np.resize(np.array(words, np.uint32), 2**bits).view("f4")
    made = elements(seed, tensor, table, scale, dtype, start, count, shape)
    return {
        "case": name,
        "name": tensor,
        "seed": f"{seed:016x}",
        "distribution": distribution,
        "bits": bits,
        "table": None if words is None else [f"{word:08x}" for word in words],
        "scale": scale,
        "dtype": dtype,
        "start": str(start),
        "count": count,
        "shape": shape,
        "values": hex_digits(made) if count <= SHOWN else None,
        "sha256": hashlib.sha256(little_endian(made)).hexdigest(),
        "fingerprint": fingerprint(made, start),
    }


def tables() -> Iterator[dict[str, Any]]:
    """Every table in every dtype."""
    for distribution in BITS:
        if distribution == "hadamard":
            continue
        for dtype in DTYPES:
            yield case(f"{distribution} in {dtype}", distribution, dtype)
    for bits, entries in CUSTOM.items():
        words = [int(word, 16) for word in hex32(np.array(entries, np.float32))]
        for dtype in DTYPES if bits < 8 else DTYPES[:: bits // 8]:
            name = f"a table of the pack's own, {bits} bits, in {dtype}"
            yield case(name, f"custom{bits}", dtype, count=33, words=words)


def roundings() -> Iterator[dict[str, Any]]:
    """The multiplication and the rounding to a dtype."""
    for dtype in DTYPES:
        yield case(f"ties, in {dtype}", "custom4", dtype, count=64, scale=1.0, words=TIES)
        yield case(f"ends, in {dtype}", "custom4", dtype, count=64, scale=1.0, words=ENDS)
    yield case("subnormal in float16", "normal8", "float16", count=64, scale=2.0**-20)
    yield case("large in float32", "uniform16", "float32", scale=2.0**120)
    yield case("large in bfloat16", "normal2", "bfloat16", scale=2.0**120)
    yield case("the largest scale of sign1", "sign1", "float32", scale=(2 - 2.0**-23) * 2.0**127)
    yield case("the least scale of sign1", "sign1", "bfloat16", scale=2.0**-126)


def counts() -> Iterator[dict[str, Any]]:
    """Lengths around the borders of lanes, rows of 1,024 and blocks of 1,024 * F elements."""
    for count in (0, 1, 2, 255, 257, 1023, 1024, 1025):
        yield case(f"{count} elements", "normal16", "float32", count=count)
    yield case("no elements, of 16 bits", "sign1", "float16", count=0)
    for number, (distribution, fields) in enumerate(
        {"normal16": 2, "uniform16": 2, "normal8": 4, "normal4": 8, "normal2": 16, "sign1": 32}.items()
    ):
        for count in (1024 * fields - 1, 1024 * fields, 1024 * fields + 1):
            name = f"{distribution}: a block {count - 1024 * fields:+d}".removesuffix(" +0")
            yield case(name, distribution, DTYPES[number % 3], count=count)


def starts() -> Iterator[dict[str, Any]]:
    """Pieces that begin inside a block, at its borders, and where 32 bits end."""
    for start in (1, 255, 1000, 1023, 1024, 2047, 2048, 2049):
        yield case(f"from {start}", "normal16", "float32", start, 40)
    yield case("a long piece from inside a block", "normal4", "bfloat16", 3000, 10_000)
    for distribution, fields in {"normal16": 2, "normal8": 4, "sign1": 32}.items():
        yield case(f"{distribution}: across 2**32 elements", distribution, "float32", 2**32 - 5, 11)
        yield case(f"{distribution}: across counter 2**32", distribution, "float16", 2**34 * fields - 6, 13)
    yield case("a long piece across 2**32 elements", "uniform16", "float32", 2**32 - 3000, 6000)
    yield case("a long piece across counter 2**32", "normal16", "bfloat16", 2**35 - 3000, 6000)
    yield case("beyond 2**53, where binary64 loses integers", "normal16", "float32", 2**53 + 1, 9)
    yield case("the last elements", "normal16", "float32", 2**63 - 9, 9)
    yield case("the last elements, one bit each", "sign1", "float32", 2**63 - 9, 9)


def hadamards() -> Iterator[dict[str, Any]]:
    """Signed Hadamard matrices: whole ones, whose longer side a power of two divides, and cut ones."""
    for shape, why in (
        ([8, 8], "square"),
        ([4, 12], "three tiles beside each other"),
        ([12, 4], "three tiles below each other"),
        ([6, 6], "cut out of a larger one"),
        ([5, 3], "tall and cut"),
        ([3, 5], "wide and cut"),
        ([7], "one dimension"),
        ([], "no dimension"),
        ([4, 2, 3, 1], "four dimensions"),
        ([1, 1], "one element"),
        ([0, 4], "no elements"),
    ):
        count = int(np.prod(shape, dtype=int))
        for dtype in DTYPES if shape == [6, 6] else DTYPES[:1]:
            yield case(f"hadamard, {why}, in {dtype}", "hadamard", dtype, count=count, shape=shape)
    yield case("hadamard: a large square", "hadamard", "bfloat16", count=100 * 100, shape=[100, 100])
    yield case("hadamard: large tiles", "hadamard", "float32", count=32 * 96, shape=[32, 96])
    yield case("hadamard: from inside a row", "hadamard", "float32", 37, 60, shape=[20, 24])
    yield case("hadamard: from inside a tall one", "hadamard", "float16", 50, 70, shape=[40, 8])
    yield case("hadamard: signs in a second block of words", "hadamard", "float32", 70_000, 40, shape=[3, 40_000])
    yield case("hadamard, another seed", "hadamard", "float32", count=36, seed=2**64 - 1, tensor="w", shape=[6, 6])


def keys() -> Iterator[dict[str, Any]]:
    """Seeds and names."""
    for seed in (0, 1, 2**32 - 1, 2**32, 0xDEADBEEF00000000, 2**63, 2**64 - 1):
        yield case(f"seed {seed:#x}", "normal16", "float32", seed=seed)
    for tensor in (
        "w",
        "model.layers.11.self_attn.q_proj.weight",
        "größe.weight",
        "层.0.权重",
        "🎲.weight",
        "n" * 1024,
    ):
        yield case(f"a name of {len(tensor.encode())} bytes", "normal16", "float32", tensor=tensor)


def wide() -> Iterator[dict[str, Any]]:
    """A Hadamard matrix whose codes have more than 16 bits, in every row; numbers far below the least of float16."""
    words = [(exponent << 23) | 0x400000 for exponent in range(32, 128, 6)]
    yield case("far below float16", "custom4", "float16", count=64, scale=1.0, words=words)
    yield case("hadamard: all of a wide one", "hadamard", "bfloat16", count=120_000, shape=[3, 40_000])
    yield case("hadamard: all of a tall one", "hadamard", "float16", count=140_000, shape=[70_000, 2])
    yield case("hadamard: of the order 65,536", "hadamard", "bfloat16", 65_000, 70_000, shape=[3, 65_536])


def known_answers() -> dict[str, Any]:
    """``elements.json``."""
    return {"cases": [*tables(), *roundings(), *counts(), *starts(), *hadamards(), *keys(), *wide()]}
