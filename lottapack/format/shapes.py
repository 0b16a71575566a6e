"""Shapes and sizes without overflow (spec: container, section 3)."""

import math
from collections.abc import Sequence

MAX_DIMENSIONS = 8
MAX_BYTES = 2**63 - 1


def numel(shape: Sequence[int]) -> int:
    """Return the number of elements; 1 for the empty shape."""
    return math.prod(shape)


def shape_fault(shape: Sequence[int], itemsize: int) -> str | None:
    """Return what is wrong with a shape, or None. The product leaves out zeros."""
    if len(shape) > MAX_DIMENSIONS:
        return f"has {len(shape):,} dimensions; the format allows {MAX_DIMENSIONS}"
    if shape and min(shape) < 0:
        return "a dimension should not be negative"
    if numel(shape if 0 not in shape else [size for size in shape if size]) * itemsize > MAX_BYTES:
        return "the shape overflows: its size is 2**63 bytes or more"
    return None
