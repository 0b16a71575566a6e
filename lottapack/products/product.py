"""Products of tensors with a generated matrix that is never in memory as a whole."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from lottapack import rng
from lottapack.products import IN_REGISTERS, signs
from lottapack.products.scratch import result, scratch
from lottapack.rng import backends

NARROW = (torch.bfloat16, torch.float16)
"""Dtypes that would round a sum over blocks after every block: such a sum is kept in float32 and rounded once."""
TILE = 1 << 21
"""The elements of a tile, if memory does not limit it: they fit the L3 cache, and are worth several threads.

Half as many and twice as many were as fast within about a tenth; an eighth was up to 0.4 times slower (decision 0027).
"""

_SPLIT = 8
"""From this many inputs, and rows of a block, on, two products in bfloat16 are faster than one in float32."""


@dataclass(frozen=True)
class Matrix:
    """A generated weight as a matrix: ``source`` gives its elements row by row; ``shape`` is (rows, columns)."""

    source: rng.Source
    shape: tuple[int, int]

    def tiles(self, ranges: Sequence[tuple[int, int]], like: Tensor, *, wide: bool = False) -> Iterator[Tensor]:
        """Yield rows ``begin`` to ``end - 1`` for each range, in the dtype and on the device of ``like``.

        ``wide``: convert them to that dtype and then to float32. Each tile is valid until the next one is requested,
        because all use the same memory.
        """
        columns = self.shape[1]
        most = max((end - begin for begin, end in ranges), default=0) * columns
        steps = self._dtypes(like, wide)
        with ExitStack() as stack:
            memory = {dtype: stack.enter_context(scratch(most, dtype, like.device)) for dtype in set(steps)}
            for begin, end in ranges:
                size = (end - begin) * columns
                tile = rng.fill_(memory[steps[0]][:size], self.source, begin * columns)
                for before, dtype in pairwise(steps):
                    if dtype != before:
                        tile = memory[dtype][:size].copy_(tile)
                yield tile.view(end - begin, columns)

    def _dtypes(self, like: Tensor, wide: bool) -> list[torch.dtype]:
        """Return the dtypes that a tile is converted through."""
        recorded: torch.dtype = getattr(torch, self.source.dtype)
        return [recorded, like.dtype, *([torch.float32] if wide else [])]

    def height(self, like: Tensor, max_bytes: int | None, *, wide: bool = False) -> int:
        """Return the rows of a tile: TILE elements, or what ``max_bytes`` allows in all dtypes of the conversion."""
        rows, columns = self.shape
        size = sum(dtype.itemsize for dtype in set(self._dtypes(like, wide)))
        elements = TILE if max_bytes is None else min(TILE, max_bytes // size)
        return max(1, min(rows, elements // max(columns, 1)))


def product(x: Tensor, matrix: Matrix, *, transposed: bool = False, max_bytes: int | None = None) -> Tensor:
    """Compute ``x @ W.T``, or ``x @ W`` if ``transposed``, in the dtype of ``x``, to which the weights are converted.

    Args:
        x: shape (..., columns), or (..., rows) if ``transposed``.
        matrix: W.
        transposed: for the gradient, and for layers whose weight is stored as (in, out).
        max_bytes: the most bytes of the tile that is generated at a time; at least one row is.

    A sum over blocks is kept in float32, or in float64 for such inputs, and rounded once at the end. The contribution
    of a block may be off by 2**-16 of itself if it comes from bfloat16 products (see _add_product_).

    On a CPU, products with ``sign1`` weights are summed in the kernels' own order (kernels.py), in binary32, and
    rounded once; all other products are summed as BLAS does.
    """
    flat = x.reshape(-1, x.shape[-1])
    if signs.fits(flat, matrix.source, matrix.shape, transposed, max_bytes):
        scale = magnitude(matrix.source, x.dtype)
        out = signs.product(flat, matrix.source, scale, matrix.shape, transposed, max_bytes)
    elif _on_gpu(flat, matrix, transposed):
        from lottapack.products import gpu

        out = gpu.product(flat, matrix.source, magnitude(matrix.source, x.dtype), matrix.shape, transposed)
    else:
        out = _tiles(flat, matrix, transposed, max_bytes)
    return out.view(*x.shape[:-1], out.shape[-1])


def _on_gpu(x: Tensor, matrix: Matrix, transposed: bool) -> bool:
    """Return whether a GPU's kernels that generate weights in registers take this product."""
    if x.device.type == "cpu" or matrix.source.table.id not in IN_REGISTERS:
        return False
    if backends.select(x.device).name != "triton":
        return False
    from lottapack.products import gpu

    return gpu.fits(x, matrix.shape[1], transposed)


def magnitude(source: rng.Source, dtype: torch.dtype) -> float:
    """Return the absolute value of every ``sign1`` weight, as recorded and then converted to ``dtype``."""
    return _converted(source.scale, source.dtype, dtype)


@lru_cache(maxsize=4096)
def _converted(scale: float, recorded: str, dtype: torch.dtype) -> float:
    return torch.tensor(scale, dtype=torch.float32, device="cpu").to(getattr(torch, recorded)).to(dtype).float().item()


def _tiles(x: Tensor, matrix: Matrix, transposed: bool, max_bytes: int | None) -> Tensor:
    rows, columns = matrix.shape
    height = matrix.height(x, max_bytes)
    summed = transposed and height < rows and x.dtype in NARROW
    split = summed and min(x.shape[0], height) >= _SPLIT and x.dtype == torch.bfloat16 and _fast_in_bfloat16(x.device)
    wide = summed and not split
    height = matrix.height(x, max_bytes, wide=wide)
    ranges = [(begin, min(begin + height, rows)) for begin in range(0, rows, height)]
    converted = x.float() if wide else x
    out = result(x, x.shape[0], columns if transposed else rows, torch.float32 if summed else x.dtype)
    with scratch(2 * out.numel() if split else 0, x.dtype, x.device) as parts:
        if split:
            out.zero_()
        for (begin, end), tile in zip(ranges, matrix.tiles(ranges, x, wide=wide), strict=True):
            if not transposed:
                torch.mm(x, tile.t(), out=out[:, begin:end])
            elif split:
                _add_product_(out, converted[:, begin:end], tile, parts)
            elif begin:
                out.addmm_(converted[:, begin:end], tile)
            else:
                torch.mm(converted[:, :end], tile, out=out)
    return out.to(x.dtype)


def _add_product_(out: Tensor, x: Tensor, tile: Tensor, parts: Tensor) -> None:
    """Add ``x @ tile`` to sums in float32, from two products in bfloat16.

    torch gives such a product in bfloat16 only, rounded from float32. The second product is added to minus the first,
    which leaves the first one's rounding error, so the two together have 16 bits. On processors with bfloat16
    instructions this takes half the time of converting the tile and multiplying in float32. ``parts``: memory for both.
    """
    high, low = parts.view(2, *out.shape)
    torch.mm(x, tile, out=high)
    torch.neg(high, out=low).addmm_(x, tile)
    out.add_(high).add_(low.nan_to_num_(0.0, 0.0, 0.0))  # if a result is not finite, the first product gives it


@lru_cache(maxsize=16)
def _fast_in_bfloat16(device: torch.device) -> bool:
    """Return whether products in bfloat16 are faster than in float32, and summed in float32."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)
    return device.type == "cpu" and torch._C._has_mkldnn and bool(supported())
