"""``draw()``: one tensor of random weights, the same bits on every device."""

import operator
from collections.abc import Sequence
from numbers import Integral, Real

import torch

from lottapack.device import resolve
from lottapack.errors import LimitError, UnsupportedError
from lottapack.format.shapes import numel
from lottapack.limits import free_memory, size_text
from lottapack.rng import Source, Table, binary32, builtin, fill_
from lottapack.rng.huge_pages import HugePages
from lottapack.rng.stream import ITEM_BITS, check_range


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

    Raises UnsupportedError for an argument out of its range, LimitError for more than the free memory, DeviceError if
    the device computes wrong bits.
    Spec: stream, tables.
    """
    if not isinstance(name, str):
        raise UnsupportedError(f"name={name!r}: a stream is named by text", hint='Such as "layers.0.weight".')
    if not isinstance(seed, Integral):
        raise UnsupportedError(f"{name!r}: the seed {seed!r} is no integer", hint="Give one from 0 to 2**64 - 1.")
    if not isinstance(scale, Real):
        raise UnsupportedError(f"{name!r}: the scale {scale!r} is no number", hint="Rules are for scaffold().")
    if not isinstance(start, Integral):
        raise UnsupportedError(f"{name!r}: start={start!r} is no integer", hint="Elements are numbered from 0 on.")
    if not isinstance(distribution, str | Table):
        raise UnsupportedError(
            f"{name!r}: the distribution {distribution!r} is no table",
            hint="Give an id, or what lottapack.table() makes.",
        )
    table = builtin(distribution) if isinstance(distribution, str) else distribution
    wanted = str(dtype).removeprefix("torch.")
    if wanted not in ITEM_BITS or not isinstance(dtype, torch.dtype):
        choices = ", ".join(f"torch.{known}" for known in ITEM_BITS)
        raise UnsupportedError(f"{name!r}: cannot draw in {dtype!r}", hint=f"Draw in one of {choices}, then convert.")
    source = Source(int(seed), name, table, binary32(scale), wanted)
    sizes = _sizes(name, shape)
    check_range(int(start), numel(sizes))
    where = resolve(device)
    if numel(sizes) * dtype.itemsize > free_memory(where):
        raise LimitError(
            f"{name!r}: {size_text(numel(sizes) * dtype.itemsize)} are more than is free on {where}",
            hint="Draw it in parts, by start.",
        )
    return fill_(HugePages().take(torch.empty(sizes, dtype=dtype, device=where)), source, int(start))


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
