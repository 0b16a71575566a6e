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
    down, up = adapter["lora_A"], adapter["lora_B"]
    # The terms of a product commute, so a transposed weight only needs the two factors exchanged.
    rows, columns = (down.T, up.T) if entry.fan_in_fan_out else (up, down)
    rows, columns = np.ascontiguousarray(rows), np.ascontiguousarray(columns)
    scaling = np.float32(scaling_factor(entry.alpha, entry.rank, entry.scaling))
    matrix = weight.reshape(rows.shape[0], columns.shape[1])
    result = np.empty_like(matrix)
    step = max(1, _CHUNK // max(1, columns.shape[1]))
    with np.errstate(all="ignore"):  # overflows become infinite
        for first in range(0, matrix.shape[0], step):
            part = slice(first, first + step)
            total = rows[part, :1] * columns[:1]
            product = np.empty_like(total)
            for r in range(1, columns.shape[0]):
                np.multiply(rows[part, r : r + 1], columns[r : r + 1], out=product)
                total += product
            total *= scaling
            total += matrix[part] * adapter["beta"] if "beta" in adapter else matrix[part]
            result[part] = total
        if "magnitude" in adapter:
            factors = _factors(result if entry.fan_in_fan_out else result.T, adapter["magnitude"])
            result *= factors if entry.fan_in_fan_out else factors[:, None]
    return result.reshape(weight.shape)


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
