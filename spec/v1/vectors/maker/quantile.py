"""The normal quantile, proved: integers only, no trust in any library's erf.

``Phi(x) = 1/2 + S(x) / sqrt(2 pi)`` with ``S(x) = sum over k of (-1)**k * x**(2 k + 1) / (2**k * k! * (2 k + 1))``. A
candidate is the binary32 number nearest to the quantile of ``p`` if ``S`` at the midpoints between it and its two
neighbours lies on either side of ``(p - 1/2) * sqrt(2 pi)``.
"""

from functools import cache
from math import isqrt
from statistics import NormalDist

import numpy as np

FRACTION = 144  # fractional bits of the fixed-point numbers
ONE = 1 << FRACTION
# Each of up to 200 terms is cut off by less than 2 units, and later terms multiply that by less than exp(x * x / 2),
# below 2**14 for |x| < 4.4: all in all below 2**24 units. A decision must be clear by more than 2**32 of them.
CLEAR = 1 << 32


def arctan_of_inverse(n: int) -> int:
    """``arctan(1 / n)`` by its Taylor series."""
    total, power, k = 0, ONE // n, 0
    while power:
        total += (-1) ** k * power // (2 * k + 1)
        power, k = power // (n * n), k + 1
    return total


@cache
def sqrt_two_pi() -> int:
    """``sqrt(2 pi)``, with pi by Machin's formula."""
    pi = 16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)
    return isqrt(2 * pi * ONE)


def series(x: float) -> int:
    """``S(x)`` for ``0 <= x < 4.4``; ``x`` has at most 63 fractional bits."""
    fixed = int(x * 2.0**64)
    assert fixed == x * 2.0**64
    assert fixed % 2 == 0
    half_square = fixed * fixed >> 1  # 128 fractional bits, exact
    power = fixed << (FRACTION - 64)  # x * (x * x / 2)**k / k!
    total, k = 0, 0
    while power:
        total += (power if k % 2 == 0 else -power) // (2 * k + 1)
        k += 1
        power = (power * half_square >> 128) // k
    return total


def upper_quantile(numerator: int, denominator: int) -> np.float32:
    """The binary32 number nearest to the quantile of ``numerator / denominator``, above 1/2: proved."""
    candidate = np.float32(NormalDist().inv_cdf(numerator / denominator))
    below, above = np.nextafter(candidate, np.float32(0)), np.nextafter(candidate, np.float32(np.inf))
    target = (2 * numerator - denominator) * sqrt_two_pi() // (2 * denominator)
    assert series((float(below) + float(candidate)) / 2) + CLEAR < target, "the candidate is too large"
    assert target + CLEAR < series((float(candidate) + float(above)) / 2), "the candidate is too small"
    return candidate
