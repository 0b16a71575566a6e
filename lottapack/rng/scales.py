"""Check scales (spec: tables, section 3). Plain Python, because reading a pack's header needs no arrays."""

import math
import struct
from typing import Final

WIDTHS: Final = (1, 2, 4, 8, 16)
"""The numbers of bits that a table may use for an element."""

EXTREMES: Final = {
    "normal16": (1.912405605253298e-05, 4.3249192237854),
    "normal8": (0.004895777907222509, 2.8856348991394043),
    "normal4": (0.07841241359710693, 1.8627318143844604),
    "normal2": (0.3186393678188324, 1.1503493785858154),
    "uniform16": (1.52587890625e-05, 0.9999847412109375),
    "sign1": (1.0, 1.0),
    "hadamard": (1.0, 1.0),
}
"""The smallest and the largest magnitude in each built-in table, without zeros."""

BUILTIN: Final = tuple(EXTREMES)
"""The ids of the built-in tables."""

_TINY: Final = 2.0**-126
_OVERFLOW: Final = {"float32": math.inf, "bfloat16": 2.0**128 - 2.0**119, "float16": 65520.0}
"""The binary32 numbers from which on values become infinite in each dtype."""


def binary32(x: float) -> float:
    """Round a number to binary32.

    Args:
        x: any number.

    Returns:
        The nearest binary32 number as a Python float, infinite beyond the range.

    Source:
        spec/v1/tables.md, section 3.

    Examples:
        >>> lottapack.rng.binary32(0.1)
        0.10000000149011612
    """
    try:
        nearest: float = struct.unpack("<f", struct.pack("<f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)
    return nearest


def fault_between(smallest: float, largest: float, scale: float, dtype: str) -> str | None:
    """Say what is wrong with a scale for a table whose magnitudes lie between two numbers.

    All others lie between their products, so these two tell. Both are 0 for a table of zeros, which any positive scale
    fits.

    Args:
        smallest: the smallest magnitude of the table, zeros left out.
        largest: its largest magnitude.
        scale: the factor.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``.

    Returns:
        The fault in words, or None.

    Raises:
        KeyError: another dtype.

    Source:
        spec/v1/tables.md, section 3.

    Examples:
        >>> lottapack.rng.fault_between(1.0, 1.0, 1e5, "float16")
        'scale 100000.0 times the entry 1.0 is infinite in float16'
    """
    if not 0 < scale < math.inf or binary32(scale) != scale:
        return f"scale {scale!r} is not a positive binary32 number"
    for magnitude in (smallest, largest):
        product = binary32(magnitude * scale)  # the product of two binary32 numbers is exact in binary64
        if magnitude and not _TINY <= product < math.inf:
            return f"scale {scale!r} times the entry {magnitude!r} is {product!r}, not a normal binary32 number"
        if product >= _OVERFLOW[dtype]:
            return f"scale {scale!r} times the entry {magnitude!r} is infinite in {dtype}"
    return None
