"""Round binary32 values to the dtypes of coded tensors."""

from typing import TYPE_CHECKING, Any

from lottapack.codecs.faults import CodingFaultError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INFINITE = {"float16": 0x7C00, "bfloat16": 0x7F80}
"""The bits that are all set in infinity and NaN."""


def round_bits(values: "NDArray[np.float32]", dtype: str) -> "NDArray[Any]":
    """Round finite binary32 values once to a dtype (to nearest, ties to even) and return their bits."""
    import numpy as np

    bits = values.view(np.uint32)
    if dtype == "bfloat16":
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).view(np.uint16)
    return bits


def finite_bits(values: "NDArray[np.float32]", dtype: str) -> "NDArray[Any]":
    """Round like round_bits(). Raises CodingFaultError for a value that float16 cannot hold."""
    made = round_bits(values, dtype)
    if dtype == "float16" and is_infinite(made, dtype):
        raise CodingFaultError("", "decodes to a value outside the range of float16")
    return made


def is_infinite(bits: "NDArray[np.uint16]", dtype: str) -> bool:
    """Return whether one of the bits of a narrow dtype stands for infinity or NaN."""
    return bool(((bits & INFINITE[dtype]) == INFINITE[dtype]).any())
