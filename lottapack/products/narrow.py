"""Add products of bfloat16 inputs and blocks to float32 sums, on CPUs with dot products of bfloat16."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

from lottapack.products import answers, declared, layout
from lottapack.products.scratch import working
from lottapack.rng import Source, backends, fill_
from lottapack.rng.kernels.calls import Work, run
from lottapack.rng.kernels.kernel import Memory
from lottapack.rng.threads import default

_PIECE: Final = 1 << 22
"""The fewest multiplications that are worth a thread of their own."""


def fits(x: Tensor) -> bool:
    """Return whether the kernel multiplies these inputs."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and backends.numba_works() and _has_dots()


@cache
def _has_dots() -> bool:
    from lottapack.rng.kernels.machine import processor  # imports llvmlite, which numba_works() has found

    return processor().has("avx512bf16")


def add_product_(out: Tensor, x: Tensor, begin: int, block: Tensor, *, fresh: bool) -> None:
    """Add ``x[:, begin:begin + rows] @ block`` to ``out``, or write it there if ``fresh``.

    ``out``: shape (n, columns), float32. ``x``: shape (n, ...), bfloat16. ``block``: shape (rows, columns), bfloat16.
    Raises DeviceError if the kernel gives wrong answers.
    """
    _require_right_answers()
    _add(out, x, begin, block, fresh=fresh)


@cache
def _require_right_answers() -> None:
    def product(x: Tensor, source: Source, shape: tuple[int, int], transposed: bool) -> Tensor:
        weight = fill_(torch.empty(shape, dtype=torch.bfloat16, device="cpu"), replace(source, dtype="bfloat16"))
        block = weight if transposed else weight.t().contiguous()
        out = torch.empty(x.shape[0], block.shape[1], dtype=torch.float32, device="cpu")
        half = block.shape[0] // 2
        _add(out, x, 0, block[:half], fresh=True)
        _add(out, x, half, block[half:], fresh=False)
        return out

    answers.ensure("bfloat16 dot products", product, torch.bfloat16)


def _add(out: Tensor, x: Tensor, begin: int, block: Tensor, *, fresh: bool) -> None:
    columns, stride = block.shape[1], x.shape[1]
    sums, terms, weights = (Memory.of_tensor(tensor.view(-1)) for tensor in (out, x, block))
    size = layout.dots_space(x.shape[0])
    parts = max(1, min(default(), columns // layout.DOT_COLUMNS, x.shape[0] * block.numel() // _PIECE))
    cuts = [columns * part // parts // layout.DOT_COLUMNS * layout.DOT_COLUMNS for part in range(parts)]

    given = [
        (sums, terms, weights, None, begin, stride, columns, first, last, fresh)
        for first, last in pairwise([*cuts, columns])
    ]
    run(declared.DOTS, given, default(), Work(3, size, working))
