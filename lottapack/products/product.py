"""Products of tensors with a generated matrix that is never in memory as a whole."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from lottapack import rng
from lottapack.products import IN_REGISTERS, narrow, signs
from lottapack.products.inputs import require_width
from lottapack.products.scratch import result, scratch
from lottapack.rng import backends

NARROW = (torch.bfloat16, torch.float16)
"""Dtypes that would round a sum over blocks after every block: such a sum is kept in float32 and rounded once."""
TILE = 1 << 21
"""The elements of a tile, if memory does not limit it: they fit the L3 cache, and are worth several threads.

Half as many and twice as many were as fast within about a tenth; an eighth was up to 0.4 times slower (decision 0027).
"""


@dataclass(frozen=True)
class Matrix:
    """A generated weight as a matrix: ``source`` gives its elements row by row; ``shape`` is (rows, columns).

    ``through``: the dtypes that the elements are rounded to, one after the other.
    """

    source: rng.Source
    shape: tuple[int, int]
    through: tuple[torch.dtype, ...] = ()

    def tiles(self, ranges: Sequence[tuple[int, int]], like: Tensor, *, wide: bool = False) -> Iterator[Tensor]:
        """Yield rows ``begin`` to ``end - 1`` for each range, in the dtype and on the device of ``like``.

        ``wide``: convert them to that dtype and then to float32. Each tile is valid until the next one is requested,
        because all use the same memory.
        """
        columns = self.shape[1]
        most = max((end - begin for begin, end in ranges), default=0) * columns
        steps = self._dtypes(like, wide)
        source = _in_dtype(self.source, steps[0])
        with ExitStack() as stack:
            memory = {dtype: stack.enter_context(scratch(most, dtype, like.device)) for dtype in set(steps)}
            for begin, end in ranges:
                size = (end - begin) * columns
                tile = rng.fill_(memory[steps[0]][:size], source, begin * columns)
                for before, dtype in pairwise(steps):
                    if dtype != before:
                        tile = memory[dtype][:size].copy_(tile)
                yield tile.view(end - begin, columns)

    def _dtypes(self, like: Tensor, wide: bool) -> list[torch.dtype]:
        """Return the dtypes that a tile is converted through."""
        then = [*self.through, like.dtype]
        first: torch.dtype = getattr(torch, _in_dtype(self.source, then[0]).dtype)
        return [first, *then, *([torch.float32] if wide else [])]

    def height(self, like: Tensor, max_bytes: int | None, *, wide: bool = False) -> int:
        """Return the rows of a tile: TILE elements, or what ``max_bytes`` allows in all dtypes of the conversion."""
        rows, columns = self.shape
        size = sum(dtype.itemsize for dtype in set(self._dtypes(like, wide)))
        elements = TILE if max_bytes is None else min(TILE, max_bytes // size)
        return max(1, min(rows, elements // max(columns, 1)))


@lru_cache(maxsize=4096)
def _in_dtype(source: rng.Source, dtype: torch.dtype) -> rng.Source:
    """Return a source of the elements as converted to ``dtype``, or the same source if they must be converted.

    An element is the table's entry times scale in binary32, rounded to the dtype (spec: tables, section 1).
    """
    name = str(dtype).removeprefix("torch.")
    if source.dtype != "float32" or dtype not in NARROW or rng.scale_fault(source.table, source.scale, name):
        return source
    return replace(source, dtype=name)


def product(x: Tensor, matrix: Matrix, *, transposed: bool = False, max_bytes: int | None = None) -> Tensor:
    """Compute ``x @ W.T``, or ``x @ W`` if ``transposed``, in the dtype of ``x``, to which the weights are converted.

    Args:
        x: shape (..., columns), or (..., rows) if ``transposed``.
        matrix: W.
        transposed: for the gradient, and for layers whose weight is stored as (in, out).
        max_bytes: the most bytes of the tile that is generated at a time; at least one row is.

    A sum over blocks is kept in float32, or in float64 for such inputs, and rounded once at the end.

    On a CPU, products with ``sign1`` weights are summed in the kernels' own order (kernels.py), in binary32, and
    rounded once; all other products are summed as BLAS does.
    """
    require_width(x, matrix.shape[not transposed], matrix.source.name)
    flat = x.reshape(-1, x.shape[-1])
    if signs.fits(flat, matrix.source, matrix.shape, transposed, max_bytes):
        scale = magnitude(matrix, x.dtype)
        out = signs.product(flat, matrix.source, scale, matrix.shape, transposed, max_bytes)
    elif _on_gpu(flat, matrix, transposed):
        from lottapack.products import gpu

        out = gpu.product(flat, matrix.source, magnitude(matrix, x.dtype), matrix.shape, transposed)
    else:
        out = _tiles(flat, matrix, transposed, max_bytes)
    return as_inputs(out, x)


def as_inputs(out: Tensor, x: Tensor) -> Tensor:
    """Return rows of outputs in the shape of the inputs.

    torch does not take the result for a view, which an operator may not return if it is to be changed in place.
    """
    shaped: Tensor = torch.ops.aten._unsafe_view(out, [*x.shape[:-1], out.shape[-1]])
    return shaped


def _on_gpu(x: Tensor, matrix: Matrix, transposed: bool) -> bool:
    """Return whether a GPU's kernels that generate weights in registers take this product."""
    if x.device.type == "cpu" or matrix.source.table.id not in IN_REGISTERS:
        return False
    if backends.select(x.device).name != "triton":
        return False
    from lottapack.products import gpu

    return gpu.fits(x, matrix.shape[1], transposed)


def magnitude(matrix: Matrix, dtype: torch.dtype) -> float:
    """Return the absolute value of every ``sign1`` weight, as recorded, rounded, and then converted to ``dtype``."""
    return _converted(matrix.source.scale, matrix.source.dtype, (*matrix.through, dtype))


@lru_cache(maxsize=4096)
def _converted(scale: float, recorded: str, then: tuple[torch.dtype, ...]) -> float:
    found = torch.tensor(scale, dtype=torch.float32, device="cpu").to(getattr(torch, recorded))
    for dtype in then:
        found = found.to(dtype)
    return found.float().item()


def _tiles(x: Tensor, matrix: Matrix, transposed: bool, max_bytes: int | None) -> Tensor:
    rows, columns = matrix.shape
    summed = transposed and matrix.height(x, max_bytes) < rows and x.dtype in NARROW
    dots = summed and x.shape[0] * columns > 0 and narrow.fits(x)
    wide = summed and not dots
    height = matrix.height(x, max_bytes, wide=wide)
    ranges = [(begin, min(begin + height, rows)) for begin in range(0, rows, height)]
    inputs = x.float() if wide else x.contiguous() if dots else x
    out = result(x, x.shape[0], columns if transposed else rows, torch.float32 if summed else x.dtype)
    for (begin, end), tile in zip(ranges, matrix.tiles(ranges, x, wide=wide), strict=True):
        if not transposed:
            torch.mm(x, tile.t(), out=out[:, begin:end])
        elif dots:
            narrow.add_product_(out, inputs, begin, tile, fresh=not begin)
        elif begin:
            out.addmm_(inputs[:, begin:end], tile)
        else:
            torch.mm(inputs[:, :end], tile, out=out)
    return out.to(x.dtype)
