"""The least and the largest scales: tables.md, section 3."""

import numpy as np

from .tables import F32

BORDERED = ("normal16", "normal8", "normal4", "normal2", "uniform16")
TINY = np.float32(2.0**-126)


def borders(table: F32) -> tuple[np.float32, np.float32]:
    """The least and the largest scale of a table in binary32."""
    least, most = np.abs(table).min(), np.abs(table).max()
    with np.errstate(over="ignore"):
        low, high = TINY / least, np.finfo(np.float32).max / most
        while low * least >= TINY:
            low = np.nextafter(low, np.float32(0))
        while low * least < TINY:
            low = np.nextafter(low, np.float32(1))
        while np.isfinite(high * most):
            high = np.nextafter(high, np.float32(np.inf))
        while np.isinf(high * most):
            high = np.nextafter(high, np.float32(0))
    return low, high
