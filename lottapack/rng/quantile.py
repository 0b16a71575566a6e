"""A formula for the table ``normal16`` that gives each of its entries exactly (decision 0014).

With ``s = (n - 32767.5) / 65536`` for entry ``n``, every operation rounded once to binary32, fma fused::

    m = fma(|s|, -FALL, FROM)          a number that falls to nearly 0 in the tail
    piece = bits(m * m * m) >> 23      its lowest five bits: 32 pieces, each narrower than the one before
    t = |s| - centre[piece]            exact
    line = fma(t, slope, start)        exact too: slope and start have few enough digits
    rest = polynomial of degree 6 in t, by Horner's rule with fma
    |entry n| = fma(t, rest, line)     the only rounding that matters

The rounding errors of ``rest`` are about 2**-33 of the result, so a formula of this kind usually gets the last bit of
one in a thousand entries wrong. These coefficients come from a search through very many, and get none wrong: all 65,536
entries are compared with the table before the first use.

For bfloat16, which keeps 8 digits, there is a shorter formula (decision 0028). With ``f = 1 + k / 65536`` for the k-th
entry on its side of the middle, k from 0, and QUADRATIC ``a, b, c``::

    piece = bits(fma(f, fma(f, a, b), c)) >> 22      its lowest five bits
    t = f - centre[piece]                            exact
    |entry n| * scale = polynomial of degree 4 in t, by Horner's rule with fma

Its coefficients are for scale 1 and in binary64. Multiplied by a scale and rounded to binary32, they give the scaled
entries within a few units of the last of 24 digits, so that about one in 65,536 entries of 8 digits is wrong.
``fits.py`` changes them for each scale until none is.
"""

from functools import cache
from importlib import resources
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lottapack.rng.tables import Floats

PIECES: Final = 32
DEGREE: Final = 6
ROWS: Final = 3 + DEGREE + 1
"""The rows: centre, start, slope, and the coefficients of ``rest`` from t**0 up."""

FALL: Final = 127995.0
FROM: Final = 64038.515625

QUADRATIC: Final = (1.9849090576171875, -6.088990211486816, 4.667449474334717)
SHORT_DEGREE: Final = 4

_LINE = 64
"""The bytes of a cache line. Reading a row that crosses two lines takes twice as long."""


@cache
def coefficients() -> Floats:
    """Return all rows one after another: shape (ROWS * PIECES,), float32, read-only, aligned to a cache line."""
    return lines(np.frombuffer(_read("normal16.pieces.f32"), "<f4"))


@cache
def short_coefficients() -> npt.NDArray[np.float64]:
    """Return the short formula's centres and coefficients from t**0 up: shape (2 + SHORT_DEGREE, PIECES), read-only."""
    return np.frombuffer(_read("normal16.short.f64"), "<f8").reshape(2 + SHORT_DEGREE, PIECES)


def lines(values: npt.NDArray[np.floating[Any]]) -> Floats:
    """Return a flat float32 copy, read-only and aligned to a cache line, as kernels take coefficients."""
    space = np.empty(values.size + _LINE // 4, np.float32)
    skip = -space.ctypes.data % _LINE // 4
    aligned = space[skip : skip + values.size]
    aligned[:] = values.reshape(-1)
    aligned.flags.writeable = False
    return aligned


def _read(name: str) -> bytes:
    return resources.files("lottapack.rng").joinpath("data", name).read_bytes()
