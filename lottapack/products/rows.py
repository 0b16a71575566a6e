"""Rows of a generated matrix, for embeddings, as a torch operator."""

import numpy as np
import torch
from torch import Tensor

from lottapack import rng
from lottapack.products.inputs import let_vmap, require_indices
from lottapack.products.weight_key import matrix_of, parsed


@torch.library.custom_op("lottapack::generated_rows", mutates_args=())
def generated_rows(indices: Tensor, like: Tensor, table: Tensor | None, weight: str) -> Tensor:
    """Return ``W[indices]``, shape (*indices.shape, columns); each requested row is generated once.

    ``like``: a tensor of the requested dtype and device. The other arguments are those of generated_product(). Raises
    IndexError.
    """
    matrix = matrix_of(weight, table)
    source, (rows, columns) = matrix.source, matrix.shape
    require_indices(indices, source.name)
    wanted, places = torch.unique(indices, return_inverse=True)
    starts = wanted.cpu().numpy().astype(np.int64)
    if starts.size and not 0 <= starts[0] <= starts[-1] < rows:
        raise IndexError(f"{source.name}: indices from {starts[0]} to {starts[-1]} are out of range for {rows} rows")
    generated = torch.empty(len(starts), columns, dtype=getattr(torch, source.dtype), device=like.device)
    rng.fill_runs_(generated, source, starts * columns, np.full_like(starts, columns))
    for dtype in (*matrix.through, like.dtype):
        generated = generated.to(dtype)
    return generated[places]


@generated_rows.register_fake
def _(indices: Tensor, like: Tensor, table: Tensor | None, weight: str) -> Tensor:  # noqa: ARG001 (torch's names)
    fake: Tensor = like.new_empty(*indices.shape, parsed(weight).shape[1])
    return fake


let_vmap(generated_rows, rows=True)
