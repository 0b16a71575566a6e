"""Fit the short formula of ``normal16`` to a scale, so that it gives each of the 65,536 elements in bfloat16.

A bfloat16 number stands for 65,536 binary32 numbers, so a polynomial that is a few of those off is still right almost
everywhere; at 57 of 100 scales it needs no change. At other scales, the fit moves the coefficients of each piece with a
wrong element by a few units, in a fixed order, until no element is wrong. Each attempt compares all elements with the
table, using the kernel that will be used, so the result is right no matter how it was found.
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
"""Fitting pays off from this many elements of one scale on."""

_TRIES: Final = 150
"""How many times the coefficients of a piece are moved before the fit gives up."""

_SCALES: Final = 1024
"""How many scales are remembered."""

_asked: Counter[float] = Counter()
"""How many elements of each scale were requested so far."""


def fitted_when_worth(scale: float, count: int) -> Floats | None:
    """Like fitted(), but return None until WORTH elements of this scale were requested, ``count`` of them now."""
    if len(_asked) > _SCALES:
        _asked.clear()
    _asked[scale] += count
    return fitted(scale) if _asked[scale] >= WORTH else None


@lru_cache(_SCALES)
def fitted(scale: float) -> Floats | None:
    """Return aligned coefficients that give all elements of a scale in bfloat16, or None: shape (6 * PIECES,), float32.

    The table must accept the scale. Takes 0.1 ms for most scales, a few ms at worst; about five of a thousand scales
    cannot be fitted.
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
    """Return how many units each attempt moves a piece's first three coefficients: shape (_TRIES, 3), float64.

    A sequence that fills a cube evenly at any length (Roberts 2018, R3), in a cube that grows.
    """
    root = 1.2207440846057596  # of x**4 = x + 1
    number = np.arange(_TRIES)[:, None]
    cube = (number * root ** -np.arange(1.0, 4.0) + 0.5) % 1 * 2 - 1  # the first is its centre
    return cube * (1 + number / 30)


@cache
def _units() -> Any:
    """Return relative changes that move a magnitude by about one unit of its last of 24 digits: shape (3, PIECES).

    At the ends of each piece except the first, t is about an eighth of the magnitude; the first lacks a constant.
    """
    first = short_coefficients()[1] == 0
    return np.stack([np.full(PIECES, 2.0**-23), np.where(first, 2.0**-23, 2.0**-20), np.full(PIECES, 2.0**-17)])


@cache
def _all_indices() -> tuple[Any, Any]:
    """Return words that serve each index once, in order and paired as for kernels, and the piece of each index."""
    fields = np.arange(1 << 16, dtype=np.uint32).reshape(-1, 2, WORDS)
    words = fields[:, 0] | fields[:, 1] << np.uint32(16)
    words = words.reshape(-1, GROUP // 2, 2).transpose(0, 2, 1).reshape(-1).copy()
    k = np.arange(1 << 15)
    square, linear, constant = QUADRATIC
    f = 1 + k / 65536
    bend = np.asarray(f * square + linear, np.float32).astype(np.float64)  # products and sums are exact in binary64
    side: Any = (np.asarray(f * bend + constant, np.float32).view(np.uint32) >> 22) % PIECES
    return words, np.concatenate([side[::-1], side])
