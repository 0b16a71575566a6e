"""The table ``normal16`` as a formula that gives each of its entries exactly (decision 0014).

With ``s = (n - 32767.5) / 65536`` for entry ``n``, every operation rounded once to binary32, fma fused::

    m = fma(|s|, -FALL, FROM)          a number that falls to nearly 0 in the tail
    piece = bits(m * m * m) >> 23      its lowest five bits: 32 pieces, each narrower than the one before
    t = |s| - centre[piece]            exact
    line = fma(t, slope, start)        exact too: slope and start have few enough digits
    rest = polynomial of degree 6 in t, by Horner's rule with fma
    |entry n| = fma(t, rest, line)     the only rounding that counts

The rounding errors of ``rest`` are some 2**-33 of the result, so a formula of this kind gives a wrong last bit about
once in a thousand entries; the coefficients here are those of a search among very many that err nowhere. That is no
matter of trust: all 65,536 entries are compared with the table before the first use.

For fewer digits than binary32 has there is a shorter polynomial in the same ``t``, of degree 5 and within NEAR units of
the last place of each entry, which is checked in the same way. Only what that leaves open needs the formula above.
"""

from functools import cache
from importlib import resources
from typing import Final

import numpy as np

from lottapack.rng.tables import Floats

PIECES: Final = 32
DEGREE: Final = 6
ROWS: Final = 3 + DEGREE + 1
"""centre, start, slope, and the coefficients of ``rest`` from t**0 up."""

FALL: Final = 127995.0
FROM: Final = 64038.515625

NEAR: Final = 6
"""By how many units in the last place the shorter polynomial may miss an entry."""
NEAR_DEGREE: Final = 5

_LINE = 64
"""Bytes of a cache line: a row that lies across two of them takes twice as long to read."""


@cache
def coefficients() -> Floats:
    """All rows one after another: shape (ROWS * PIECES,), float32, read-only, at the beginning of a cache line."""
    return _read("normal16.pieces.f32", ROWS)


@cache
def near_coefficients() -> Floats:
    """The shorter polynomial's, from t**0 up: shape ((NEAR_DEGREE + 1) * PIECES,), otherwise like coefficients()."""
    return _read("normal16.near.f32", NEAR_DEGREE + 1)


def _read(name: str, rows: int) -> Floats:
    data = resources.files("lottapack.rng").joinpath("data", name).read_bytes()
    space = np.empty(rows * PIECES + _LINE // 4, np.float32)
    skip = -space.ctypes.data % _LINE // 4
    aligned = space[skip : skip + rows * PIECES]
    aligned[:] = np.frombuffer(data, "<f4")
    aligned.flags.writeable = False
    return aligned
