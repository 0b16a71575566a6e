"""Rows of a generated matrix, for embeddings, as an operator of torch's."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lottapack import rng
from lottapack.products.inputs import let_vmap
from lottapack.products.op import source_of


@torch.library.custom_op("lottapack::generated_rows", mutates_args=())
def generated_rows(
    indices: Tensor,
    like: Tensor,
    table: Tensor | None,
    distribution: str,
    seed: str,
    name: str,
    scale: float,
    dtype: str,
    rows: int,
    columns: int,
) -> Tensor:
    """``W[indices]``, shape (*indices.shape, columns), of which each row that is asked for is generated once.

    ``like``: a tensor of the dtype and device wanted. The others are those of generated_product(). Raises IndexError.
    """
    source = source_of(table, distribution, seed, name, scale, dtype)
    wanted, places = torch.unique(indices, return_inverse=True)
    starts = wanted.cpu().numpy().astype(np.int64)
    if starts.size and not 0 <= starts[0] <= starts[-1] < rows:
        raise IndexError(f"{name}: index out of range: {starts[0]} to {starts[-1]}, of {rows} rows")
    found = torch.empty(len(starts), columns, dtype=getattr(torch, dtype), device=like.device)
    rng.fill_runs_(found, source, starts * columns, np.full_like(starts, columns))
    return found.to(like.dtype)[places]


@generated_rows.register_fake
def _(indices: Tensor, like: Tensor, *rest: Any) -> Tensor:
    fake: Tensor = like.new_empty(*indices.shape, rest[7])
    return fake


let_vmap(generated_rows, rows=True)
