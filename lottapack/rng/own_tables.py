"""table(): make a table of any one-dimensional distribution from its quantile function (spec: tables, section 2)."""

import hashlib
import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lottapack.errors import UnsupportedError
from lottapack.rng.scales import WIDTHS
from lottapack.rng.tables import Table, custom

__all__ = ["table"]

_TINY = np.finfo(np.float32).tiny


def table(
    ppf: Callable[[npt.NDArray[np.float64]], Any],
    bits: int = 16,
    *,
    id: str | None = None,  # noqa: A002 - the spec's word
) -> Table:
    """Make a table of your own distribution, for `scaffold` and `draw`.

    Entry k is the quantile at ``(k + 1/2) / 2**bits``, rounded to binary32, as in the built-in normal tables. The pack
    stores the table, so rebuilding the model needs neither the function nor its library. The table takes
    ``4 * 2**bits`` bytes there: 256 KiB with 16 bits, 1 KiB with 8.

    Args:
        ppf: the quantile function (the inverse of the distribution function), such as ``scipy.stats.laplace.ppf``. It
            is called once with float64 probabilities between 0 and 1, shape (2**bits,), and returns as many numbers in
            ascending order. Entries nearer to zero than binary32's normal numbers, and minus zero, become zero.
        bits: 1, 2, 4, 8 or 16.
        id: its name in the pack: at most 64 lower-case letters, digits and _, a letter first. By default ``table_`` and
            the beginning of its SHA-256, so that different tables have different names.

    Returns:
        The table.

    Raises:
        UnsupportedError: other bits or another id; values that are not numbers, too few or too many, not finite, or
            that decrease.

    Source:
        spec/v1/tables.md, section 2.

    Examples:
        >>> table = lottapack.table(lambda p: 2 * p - 1, bits=2, id="uniform2")
        >>> table.values.tolist()
        [-0.75, -0.25, 0.25, 0.75]
    """
    if type(bits) is not int or bits not in WIDTHS:
        raise UnsupportedError(f"a table cannot have bits={bits!r}", hint="Pass 1, 2, 4, 8 or 16.")
    if not callable(ppf):
        raise UnsupportedError(
            f"{reprlib.repr(ppf)} is not a function of probabilities",
            hint="Pass one, such as scipy.stats.laplace.ppf, or give a list of values to lottapack.rng.custom().",
        )
    count = 2**bits
    probabilities = (np.arange(count) + 0.5) / count
    try:
        returned = np.asarray(ppf(probabilities))
        if np.iscomplexobj(returned):
            raise TypeError("it returned complex numbers")
        values = returned.astype(np.float64)
    except (TypeError, ValueError) as fault:
        raise UnsupportedError(
            f"the quantile function failed on an array of {count} probabilities: {fault}",
            hint="Make it take an array, for example with numpy.vectorize.",
        ) from fault
    if values.shape != (count,):
        raise UnsupportedError(
            f"the quantile function returned shape {values.shape} for {count} probabilities",
            hint="Return one number for each probability.",
        )
    _require(np.isfinite(values), "is {value}, but must be finite", probabilities, values)
    rising = np.concatenate([[True], values[1:] >= values[:-1]])
    _require(rising, "is {value}, less than the one before it", probabilities, values)
    with np.errstate(over="ignore", under="ignore"):
        entries = values.astype(np.float32)
    _require(np.isfinite(entries), "is {value}, outside the range of binary32", probabilities, values)
    entries[np.abs(entries) < _TINY] = 0.0
    return custom(
        id if id is not None else f"table_{hashlib.sha256(entries.astype('<f4').tobytes()).hexdigest()[:12]}", entries
    )


def _require(
    right: npt.NDArray[np.bool_], fault: str, probabilities: npt.NDArray[np.float64], values: npt.NDArray[np.float64]
) -> None:
    if not right.all():
        first = int(right.argmin())
        problem = fault.format(value=values[first])
        raise UnsupportedError(
            f"the quantile at {probabilities[first]!s} (entry {first}) {problem}",
            hint="A quantile function ascends from the smallest to the largest value. For any other table of values, "
            "such as a codebook, use lottapack.rng.custom(id, values).",
        )
