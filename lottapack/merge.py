"""The plain weight that a layer with an adapter stands for, the same bits on every device (spec: merge)."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from lottapack.format.descriptor import Adapted
from lottapack.format.recipe import AdaptedRecipe, scaling_factor

_CHUNK = 1 << 17  # elements of a step: the partial sums stay in the cache


@torch.no_grad()
def merged(
    weight: Tensor,
    lora_A: Tensor,
    lora_B: Tensor,
    beta: Tensor | None,
    magnitude: Tensor | None = None,
    *,
    scaling: float,
    fan_in_fan_out: bool,
) -> Tensor:
    """``beta * W + s * B A``, every operation rounded to binary32 by itself, ranks summed in order.

    With a magnitude, the weights of each output are then scaled to that length (DoRA, arXiv 2402.09353).

    Args:
        weight: the backbone in its recorded dtype and shape.
        lora_A: shape (rank, d_in).
        lora_B: shape (d_out, rank).
        beta: shape (1,), or None for 1.
        magnitude: shape (d_out,), or None.
        scaling: the binary32 factor s.
        fan_in_fan_out: whether weight is stored as (d_in, d_out).

    Returns:
        A new tensor like ``weight``.
    """
    # Products commute, so the transposed weight needs only the factors' places exchanged.
    rows, columns = (lora_A.t(), lora_B.t()) if fan_in_fan_out else (lora_B, lora_A)
    rows, columns = rows.float().contiguous(), columns.float().contiguous()
    matrix = weight.reshape(rows.shape[0], columns.shape[1])
    # A length is that of the unrounded weights.
    result = torch.empty_like(matrix, dtype=None if magnitude is None else torch.float32)
    step = max(1, _CHUNK // columns.shape[1])
    factor = None if beta is None else beta.float()
    for first in range(0, matrix.shape[0], step):
        part = slice(first, first + step)
        # mul and add as two calls: addmm, addcmul and baddbmm may fuse them into one rounding.
        low_rank = rows[part, :1] * columns[:1]
        product = torch.empty_like(low_rank)
        for r in range(1, columns.shape[0]):
            torch.mul(rows[part, r : r + 1], columns[r : r + 1], out=product)
            low_rank.add_(product)
        low_rank.mul_(scaling)
        backbone = matrix[part].float()
        result[part] = low_rank.add_(backbone if factor is None else torch.mul(backbone, factor))
    if magnitude is not None:
        factors = length_factors(result if fan_in_fan_out else result.t().contiguous(), magnitude)
        result = result.mul_(factors if fan_in_fan_out else factors[:, None]).to(weight.dtype)
    return result.view(weight.shape)


def length_factors(inputs: Tensor, magnitude: Tensor) -> Tensor:
    """What the weights of each output are multiplied by: shape (d_out,), binary32 (spec: merge, step 4).

    ``inputs``: the unrounded weights, shape (d_in, d_out), binary32. ``magnitude``: shape (d_out,).
    """
    place = inputs.device if inputs.device.type in ("cpu", "cuda") else torch.device("cpu")  # others lack binary64
    total = torch.zeros(inputs.shape[1], dtype=torch.float64, device=place)
    for weights in inputs.to(place):
        wide = weights.double()
        total.add_(wide.mul_(wide))
    lengths = np.sqrt(total.cpu().numpy())  # NumPy's root is correctly rounded wherever it runs
    wanted = magnitude.double().cpu().numpy()
    quotients = np.divide(wanted, lengths, out=np.zeros_like(lengths), where=lengths != 0)
    return torch.from_numpy(quotients).float().to(inputs.device)


def merge_adapter(weight: Tensor, adapter: Mapping[str, Tensor], entry: Adapted | AdaptedRecipe) -> Tensor:
    """As merged(), with the adapter's tensors by name and the rest from its entry."""
    return merged(
        weight,
        adapter["lora_A"],
        adapter["lora_B"],
        adapter.get("beta"),
        adapter.get("magnitude"),
        scaling=scaling_factor(entry.alpha, entry.rank, entry.scaling),
        fan_in_fan_out=entry.fan_in_fan_out,
    )
