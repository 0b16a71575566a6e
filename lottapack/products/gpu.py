"""Products with ``sign1`` weights that a GPU generates in registers. Imports Triton, which torch brings."""

from typing import Final

import torch
from torch import Tensor

from lottapack.products import gpu_kernels as kernels
from lottapack.rng.gpu import INTERPRETED, _running
from lottapack.rng.stream import Source
from lottapack.rng.torch_ops import signed

_RUN: Final = 256
"""The elements that the kernel for vectors takes at a time, consecutive in a stream and in a row."""
_WORDS: Final = 1024
_VECTORS: Final = 4
"""Up to this many inputs are multiplied one by one: tensor cores would take at least 16."""
_ROWS: Final = 8
"""The rows of a program of the kernel for vectors."""
_AS_WRITTEN: Final = {"enable_fp_fusion": False}
_TILE: Final = {"ITEMS": 16, "ROWS": 64, "STEP": 16}
_LARGE: Final = {"ITEMS": 64, "ROWS": 64, "STEP": 16}


def fits(x: Tensor, columns: int, transposed: bool) -> bool:
    """Return whether the kernels support inputs of a matrix with this number of columns."""
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16) or not x.numel() or not columns:
        return False
    return columns % _WORDS == 0 or (not transposed and x.shape[0] <= _VECTORS and columns % _RUN == 0)


def product(x: Tensor, source: Source, scale: float, shape: tuple[int, int], transposed: bool) -> Tensor:
    """Compute ``x @ W.T``, or ``x @ W`` if ``transposed``; W, of ``shape``, has the source's signs times ``scale``.

    ``x``: shape (n, columns), or (n, rows) if ``transposed``. Raises UnsupportedError if Triton cannot compile.
    """
    (rows, columns), items = shape, x.shape[0]
    x = x.contiguous()
    out = x.new_empty(items, columns if transposed else rows)
    key = torch.tensor([signed(source.stream), signed(source.seed)], dtype=torch.int64, device="cpu").to(x.device)
    with _running(x.device):
        if not transposed and (items <= _VECTORS or columns % _WORDS):
            grid = -(-rows // _ROWS), items
            kernels.vector[grid](out, x, key, scale, rows, RUNS=columns // _RUN, ROWS=_ROWS, **_AS_WRITTEN)
            return out
        sizes = _TILE if items <= _TILE["ITEMS"] else _LARGE
        # Multiply float32 in full precision: tensor cores would use 10 bits of each input.
        rest = {"RUNS": columns // _WORDS, **sizes, "PRECISION": "ieee", **_AS_WRITTEN}
        rest["WIDE"] = INTERPRETED and x.dtype == torch.bfloat16
        across = -(-items // sizes["ITEMS"])
        if transposed:
            grid = columns // (4 * sizes["STEP"]), across
            kernels.transposed[grid](out, x, key, scale, items, rows, **rest)
        else:
            kernels.batch[-(-rows // sizes["ROWS"]), across](out, x, key, scale, items, rows, **rest)
    return out
