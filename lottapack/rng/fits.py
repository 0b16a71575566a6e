"""Fits the short formula of ``normal16`` to a scale, until it gives each of the 65,536 elements in bfloat16.

A bfloat16 number stands for 65,536 binary32 numbers, so a polynomial that is a few of them off is right nearly
everywhere: at 57 of 100 scales it is as it is. Elsewhere the coefficients of those pieces that have a wrong element are
moved by a few units, in a fixed order, until none is wrong. Each try computes and compares all elements with the
table's, by the kernel that will be used: what comes of this is right, however it was found.
"""

from collections import Counter
from functools import cache, lru_cache
from typing import Any, Final

import numpy as np

from lottapack.rng.kernels.declared import BLOCKS16, FITTED, GROUP
from lottapack.rng.quantile import PIECES, QUADRATIC, lines, short_coefficients
from lottapack.rng.stream import WORDS
from lottapack.rng.tables import Floats, builtin, scaled_bits

WORTH: Final = 1 << 22
"""Elements of one scale from which on fitting takes less time than it saves."""

_TRIES: Final = 150
"""How often the coefficients of a piece are moved before it is given up."""

_SCALES: Final = 1024
"""Scales that are remembered."""

_asked: Counter[float] = Counter()
"""How many elements of a scale were asked for so far."""


def fitted_when_worth(scale: float, count: int) -> Floats | None:
    """As fitted(), but None until WORTH elements of this scale were asked for, ``count`` of them now."""
    if len(_asked) > _SCALES:
        _asked.clear()
    _asked[scale] += count
    return fitted(scale) if _asked[scale] >= WORTH else None


@lru_cache(_SCALES)
def fitted(scale: float) -> Floats | None:
    """Coefficients that give all elements of a scale in bfloat16: shape (6 * PIECES,), float32, aligned; or None.

    The scale must be one that the table can have. Takes 0.1 ms for most, a few ms at worst; for five of a
    thousand scales none are found.
    """
    base, (words, pieces) = short_coefficients(), _all_indices()
    expected, out = scaled_bits(builtin("normal16"), scale, "bfloat16"), np.empty(1 << 16, np.uint16)
    moves, tries = _moves(), np.zeros(PIECES, np.int64)
    while tries.max() < len(moves):
        moved = base[1:4] * (1 + moves[tries].T * _units())
        rows = lines(np.concatenate([base[:1], moved * scale, base[4:] * scale]))
        BLOCKS16(out, words, rows, scale, FITTED)
        wrong = pieces[out != expected]
        if not wrong.size:
            return rows
        tries[np.unique(wrong)] += 1
    return None


@cache
def _moves() -> Any:
    """By how many units the first three coefficients of a piece are moved, try by try: shape (_TRIES, 3), float64.

    A sequence that fills a cube evenly, whatever its length (Roberts 2018, R3), in a cube that grows.
    """
    root = 1.2207440846057596  # of x**4 = x + 1
    number = np.arange(_TRIES)[:, None]
    cube = (number * root ** -np.arange(1.0, 4.0) + 0.5) % 1 * 2 - 1  # the first is its centre
    return cube * (1 + number / 30)


@cache
def _units() -> Any:
    """What changes a magnitude by about a unit of its last place, of 24 digits: shape (3, PIECES), relative.

    At the ends of a piece, but of the first, t is about an eighth of the magnitude; the first has no constant.
    """
    first = short_coefficients()[1] == 0
    return np.stack([np.full(PIECES, 2.0**-23), np.where(first, 2.0**-23, 2.0**-20), np.full(PIECES, 2.0**-17)])


@cache
def _all_indices() -> tuple[Any, Any]:
    """Words that serve each index once, in order and paired as kernels take them, and each index's piece."""
    fields = np.arange(1 << 16, dtype=np.uint32).reshape(-1, 2, WORDS)
    words = fields[:, 0] | fields[:, 1] << np.uint32(16)
    words = words.reshape(-1, GROUP // 2, 2).transpose(0, 2, 1).reshape(-1).copy()
    k = np.arange(1 << 15)
    square, linear, constant = QUADRATIC
    f = 1 + k / 65536
    bend = np.asarray(f * square + linear, np.float32).astype(np.float64)  # products and sums are exact in binary64
    side: Any = (np.asarray(f * bend + constant, np.float32).view(np.uint32) >> 22) % PIECES
    return words, np.concatenate([side[::-1], side])
