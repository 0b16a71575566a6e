"""The bytes of a recipe in a tensor, also where a tool made floats of them."""

from typing import TYPE_CHECKING

import numpy as np

from lottapack.errors import CheckpointError
from lottapack.format import dtypes

if TYPE_CHECKING:
    import torch

_ROUNDING = 0.125
"""How far a float may be from the byte that it was: half a unit in the last place of bfloat16 below 64."""


def bytes_of(tensor: "torch.Tensor", name: str) -> bytes:
    """The bytes in a uint8 tensor of one dimension. Raises CheckpointError, which calls the tensor ``name``.

    Tools that convert or average checkpoints make floats of all that they hold. Every float dtype holds the numbers 0
    to 255 exactly; an average with decay rounds them, and what is near one byte, and near no other, is that byte.
    """
    dtype = dtypes.dtype_name(tensor.dtype)
    if tensor.is_meta or tensor.dim() != 1 or tensor.dtype.is_complex or tensor.is_quantized:
        raise CheckpointError(
            f"{name} is {dtype} of shape {tuple(tensor.shape)} on {tensor.device}; a recipe is uint8 with one "
            "dimension",
            hint="Leave it as it is when you convert or move a checkpoint.",
        )
    values = tensor.detach().cpu().double().numpy()
    nearest = np.rint(values)
    with np.errstate(invalid="ignore"):
        is_bytes = np.all((np.abs(values - nearest) <= _ROUNDING) & (nearest >= 0) & (nearest <= 255))
    if not is_bytes:
        raise CheckpointError(
            f"{name} is {dtype} and holds numbers that are no bytes: it was changed, or averaged over different models",
            hint=f"Take it from a checkpoint as it was saved: state[{name!r}] = saved[{name!r}].",
        )
    return bytes(nearest.astype(np.uint8).data)
