"""``draw()``: one tensor of random weights, the same bits on every device."""

import operator
from collections.abc import Sequence

import torch

from lottapack.errors import UnsupportedError
from lottapack.rng import Source, Table, binary32, builtin, fill_
from lottapack.rng.stream import ITEM_BITS
from lottapack.weights.huge_pages import HugePages


def draw(
    name: str,
    shape: int | Sequence[int],
    *,
    seed: int,
    distribution: str | Table = "normal16",
    scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    start: int = 0,
) -> torch.Tensor:
    """A tensor of shape ``shape``: elements ``start`` and following of the stream of ``name``, in row-major order.

    ``seed``: 0 to 2**64 - 1. ``name``: names the stream; tensors of one seed and different names are independent.
    ``distribution``: the id of a built-in table, or a Table. ``scale``: what its values are multiplied by, rounded to
    binary32 first. ``dtype``: float32, bfloat16 or float16, to which each element is rounded once.

    Raises UnsupportedError for an argument out of its range, DeviceError if the device computes wrong bits.
    Spec: stream, tables.
    """
    table = builtin(distribution) if isinstance(distribution, str) else distribution
    wanted = str(dtype).removeprefix("torch.")
    if wanted not in ITEM_BITS:
        raise UnsupportedError(
            f"{name!r}: cannot draw in {dtype}", hint=f"Draw in one of {', '.join(ITEM_BITS)}, then convert."
        )
    source = Source(seed, name, table, binary32(scale), wanted)
    return fill_(HugePages().take(torch.empty(_sizes(name, shape), dtype=dtype, device=device)), source, start)


def _sizes(name: str, shape: int | Sequence[int]) -> tuple[int, ...]:
    try:
        sizes = tuple(map(operator.index, (shape,) if isinstance(shape, int) else shape))
    except TypeError:
        sizes = (-1,)
    if any(size < 0 for size in sizes):
        raise UnsupportedError(
            f"{name!r}: {shape!r} is no shape", hint="Give integers that are not negative, such as (256, 64)."
        )
    return sizes
