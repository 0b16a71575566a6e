"""The sizes that the kernels of products and their callers share."""

from functools import lru_cache
from typing import Final

from lottapack.rng.stream import WORDS

BLOCK: Final = 32 * WORDS
"""The number of weights from a block of words."""
LANES: Final = 16
"""The number of rows that are summed in parallel."""
TERMS: Final = 512
"""The number of terms in a part of a sum: the tables of four inputs take 32 KB and fit in an L1 cache."""
CHUNK: Final = 512
"""The number of columns processed at a time if W is transposed."""
SLAB: Final = 64
"""The number of inputs whose outputs stay in a cache while parts are added to them."""
TABLES: Final = 4 * TERMS // 4 * 16
"""The number of table entries of a part, for the four inputs at most that are summed together."""


@lru_cache(maxsize=4096)
def bits_around(columns: int) -> int:
    """Return the 32-bit numbers around 16 rows, from block to block, and those that are read behind them."""
    return (columns // 2 + 2 * WORDS + 64 + 15) // 16 * 16


def lanes_of_rows(columns: int) -> int:
    """Return the 32-bit numbers in the lanes of 16 rows."""
    return -(-columns // 512) * 16 * LANES


@lru_cache(maxsize=4096)
def product_space(rows: int, columns: int) -> int:
    """Return the 32-bit numbers that the product with this many rows needs to work."""
    return bits_around(columns) + TABLES + -(-rows // LANES) * lanes_of_rows(columns)


def transposed_space(chunks: int) -> int:
    """Return the 32-bit numbers that the transposed product with this many chunks of columns needs to work."""
    return TABLES + chunks * CHUNK * TERMS // 32


def bits_space(skip: int, rows: int, columns: int) -> int:
    """Return the 32-bit numbers from which the transposed product reads this many rows, from bit ``skip`` on."""
    chunked = -(-columns // CHUNK) * CHUNK  # the last row is read to its chunk's end, and a number further
    return (skip + (-(-rows // 32) * 32 - 1) * columns + chunked) // 32 + 2


DOT_INPUTS: Final = 6
"""The inputs that the dot products of bfloat16 sum together."""
DOT_COLUMNS: Final = 64
"""The columns of a block that they sum together."""
DOT_ROWS: Final = 256
"""The rows of a block whose panel of DOT_COLUMNS stays in a first-level cache."""


def dots_space(inputs: int) -> int:
    """Return the 32-bit numbers that a thread needs for a panel and for the pairs of this many inputs."""
    return DOT_ROWS // 2 * (DOT_COLUMNS + -(-inputs // DOT_INPUTS) * DOT_INPUTS)
