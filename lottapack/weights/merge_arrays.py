"""Merge weights in NumPy with the bits of merge.py (spec: merge), for readers without torch."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lottapack.format.descriptor import Adapted
from lottapack.format.recipe import scaling_factor

Floats = npt.NDArray[np.float32]

_CHUNK = 1 << 17  # elements at a time: the partial sums stay in the cache


def merge_adapter(weight: Floats, adapter: Mapping[str, Floats], entry: Adapted) -> Floats:
    """Return ``beta * W + s * B A``, each operation rounded to binary32, ranks summed in order.

    Args:
        weight: the backbone in its recorded shape, in float32, which holds each recorded dtype exactly.
        adapter: the adapter's tensors by their last name, in float32.
        entry: the parameter's entry.

    Returns:
        A new array like ``weight``, not yet rounded to the recorded dtype.
    """
    fan = entry.fan_in_fan_out
    height = len(weight)
    matrix = weight.reshape(height, -1)
    # The terms of a product commute, so a transposed weight only needs the two factors exchanged.
    factors = tuple(part.T for part in _scaled(adapter)) if fan else _scaled(adapter)[::-1]
    rows, columns = map(np.ascontiguousarray, factors) if factors else (None, None)
    of_rows, of_columns = ("scale_in", "scale_out") if fan else ("scale_out", "scale_in")
    scaling = np.float32(scaling_factor(entry.alpha, entry.rank, entry.scaling))
    result = np.empty_like(matrix)
    step = max(1, _CHUNK // max(1, matrix.shape[1]))
    with np.errstate(all="ignore"):  # overflows become infinite
        for first in range(0, height, step):
            part = slice(first, first + step)
            wide = matrix[part]
            for name in ("scale_in", "scale_out"):
                if name in adapter:
                    wide = wide * (adapter[name][part, None] if name == of_rows else adapter[of_columns])
            wide = wide * adapter["beta"] if "beta" in adapter else wide
            result[part] = wide if rows is None or columns is None else _sums(rows[part], columns) * scaling + wide
        if "magnitude" in adapter:
            lengths = _factors(result if fan else result.T, adapter["magnitude"])
            result *= lengths if fan else lengths[:, None]
    return result.reshape(weight.shape)


def _scaled(adapter: Mapping[str, Floats]) -> tuple[Floats, ...]:
    """Return A and B, each times its vector if it has one (spec: merge, step 3); nothing without factors."""
    if "lora_A" not in adapter:
        return ()
    down, up = adapter["lora_A"], adapter["lora_B"]
    with np.errstate(all="ignore"):
        down = adapter["lambda_d"][:, None] * down if "lambda_d" in adapter else down
        up = adapter["lambda_b"][:, None] * up if "lambda_b" in adapter else up
    return down, up


def _sums(rows: Floats, columns: Floats) -> Floats:
    """Return the product of two factors, ranks summed in order."""
    total: Floats = rows[:, :1] * columns[:1]
    product = np.empty_like(total)
    for r in range(1, columns.shape[0]):
        np.multiply(rows[:, r : r + 1], columns[r : r + 1], out=product)
        total += product
    return total


def _factors(inputs: Floats, magnitude: Floats) -> Floats:
    """Return the factor of each output's weights. ``inputs``: shape (d_in, d_out)."""
    total = np.zeros(inputs.shape[1], np.float64)
    for weights in np.ascontiguousarray(inputs):
        wide = weights.astype(np.float64)
        total += wide * wide
    lengths = np.sqrt(total)
    quotients = np.divide(magnitude.astype(np.float64), lengths, out=np.zeros_like(lengths), where=lengths != 0)
    factors: Floats = quotients.astype(np.float32)
    return factors
