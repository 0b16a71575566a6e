"""The sizes of what the kernels of ``sign1`` take at a time, which their callers and their sources must agree on."""

from typing import Final

from lottapack.rng.stream import WORDS

BLOCK: Final = 32 * WORDS
"""Weights that a block of words serves."""
LANES: Final = 16
"""Rows that are summed side by side."""
TERMS: Final = 512
"""Terms in a part of a sum: the tables of four inputs take 32 KB, and stay in a first-level cache."""
CHUNK: Final = 512
"""Columns that are taken at a time where W is transposed."""
SLAB: Final = 64
"""Inputs whose outputs stay in a cache while parts are added to them."""
TABLES: Final = 4 * TERMS // 4 * 16
"""Numbers of the tables of a part, for the four inputs that are summed together at most."""


def bits_around(columns: int) -> int:
    """Numbers of 32 bits around 16 rows, from a block's beginning to a block's end, and of what is read behind."""
    return (columns // 2 + 2 * WORDS + 64 + 15) // 16 * 16


def lanes_of_rows(columns: int) -> int:
    """Numbers of 32 bits in the lanes of 16 rows."""
    return -(-columns // 512) * 16 * LANES


def product_space(rows: int, columns: int) -> int:
    """Numbers of 32 bits that the product with so many rows needs to work."""
    return bits_around(columns) + TABLES + -(-rows // LANES) * lanes_of_rows(columns)


def transposed_space(chunks: int) -> int:
    """Numbers of 32 bits that the transposed product with so many chunks of columns needs to work."""
    return TABLES + chunks * CHUNK * TERMS // 32


def bits_space(skip: int, rows: int, columns: int) -> int:
    """Numbers of 32 bits from which the transposed product reads so many rows, from bit ``skip`` on."""
    chunked = -(-columns // CHUNK) * CHUNK  # the last row is read to its chunk's end, and a number further
    return (skip + (-(-rows // 32) * 32 - 1) * columns + chunked) // 32 + 2
