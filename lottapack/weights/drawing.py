"""Draw one tensor of random weights, the same bits on every device."""

import operator
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING

from lottapack.errors import LimitError, UnsupportedError
from lottapack.extras import without_torch
from lottapack.format.dtypes import dtype_name
from lottapack.format.shapes import numel
from lottapack.limits import free_memory, size_text
from lottapack.rng import Source, Table, binary32, builtin, fill_
from lottapack.rng.stream import ITEM_BITS, check_range

if TYPE_CHECKING:
    import torch


def draw(
    name: str,
    shape: int | Sequence[int],
    *,
    seed: int,
    distribution: str | Table = "normal16",
    scale: float = 1.0,
    dtype: "torch.dtype | str" = "float32",
    device: "str | torch.device" = "cpu",
    start: int = 0,
) -> "torch.Tensor":
    """Draw a tensor of random weights: the same bits on every device.

    Args:
        name: names the stream; tensors of one seed and different names are independent.
        shape: of the tensor, whose elements follow one another in row-major order.
        seed: 0 to 2**64 - 1.
        distribution: the id of a built-in table, or a Table from ``lottapack.table``.
        scale: the factor of the table's values, rounded to binary32.
        dtype: float32, bfloat16 or float16, to which each element is rounded once.
        device: where the tensor is made.
        start: the number of the first element in the stream.

    Returns:
        The tensor.

    Raises:
        UnsupportedError: an argument is out of its range.
        LimitError: the tensor is larger than the free memory.
        DeviceError: the device computes wrong bits.

    Source:
        spec/v1/stream.md and spec/v1/tables.md.

    Examples:
        >>> lottapack.draw("layers.0.weight", (2, 3), seed=42, distribution="sign1")
        tensor([[...]])
    """
    try:
        import torch
    except ModuleNotFoundError as fault:
        raise without_torch(fault, "lottapack.draw, unlike lottapack.numpy.draw,") from fault

    from lottapack.device import resolve
    from lottapack.rng.huge_pages import HugePages

    source, sizes = checked(name, shape, seed, distribution, scale, dtype, start)
    where = resolve(device)
    check_size(name, source, sizes, where)
    return fill_(HugePages().take(torch.empty(sizes, dtype=getattr(torch, source.dtype), device=where)), source, start)


def checked(
    name: str,
    shape: int | Sequence[int],
    seed: int,
    distribution: str | Table,
    scale: float,
    dtype: "torch.dtype | str",
    start: int,
) -> tuple[Source, tuple[int, ...]]:
    """Return the source and the shape that draw()'s arguments name. Raises UnsupportedError."""
    if not isinstance(name, str):
        raise UnsupportedError(
            f"name={name!r} is not a string", hint='Pass the name of a tensor, such as "layers.0.weight".'
        )
    if not isinstance(seed, Integral):
        raise UnsupportedError(f"{name!r}: the seed {seed!r} is not an integer", hint="Pass one from 0 to 2**64 - 1.")
    if not isinstance(scale, Real):
        raise UnsupportedError(
            f"{name!r}: the scale {scale!r} is not a number", hint="Pass a number. Only scaffold() takes rules."
        )
    if not isinstance(start, Integral):
        raise UnsupportedError(f"{name!r}: start={start!r} is not an integer", hint="Pass an index from 0 on.")
    if not isinstance(distribution, str | Table):
        raise UnsupportedError(
            f"{name!r}: the distribution {distribution!r} is not a table",
            hint="Pass a table's id, or what lottapack.table() returns.",
        )
    table = builtin(distribution) if isinstance(distribution, str) else distribution
    wanted = dtype_name(dtype)
    if wanted not in ITEM_BITS:
        choices = ", ".join(f"torch.{known}" for known in ITEM_BITS)
        raise UnsupportedError(
            f"{name!r}: cannot draw in {dtype!r}", hint=f"Draw in one of {choices}, then convert the tensor."
        )
    sizes = _sizes(name, shape)
    source = Source(int(seed), name, table, binary32(scale), wanted, sizes)
    check_range(int(start), numel(sizes))
    return source, sizes


def check_size(name: str, source: Source, sizes: tuple[int, ...], device: "torch.device | str" = "cpu") -> None:
    """Raise LimitError for more than the device's free memory."""
    needed = numel(sizes) * ITEM_BITS[source.dtype] // 8
    if needed > free_memory(device):
        raise LimitError(
            f"{name!r}: {size_text(needed)} are more than is free on {device}", hint="Draw it in parts, by start."
        )


def _sizes(name: str, shape: int | Sequence[int]) -> tuple[int, ...]:
    try:
        sizes = tuple(map(operator.index, (shape,) if isinstance(shape, int) else shape))
    except TypeError:
        sizes = (-1,)
    if any(size < 0 for size in sizes):
        raise UnsupportedError(
            f"{name!r}: {shape!r} is not a shape", hint="Pass integers that are not negative, such as (256, 64)."
        )
    return sizes
