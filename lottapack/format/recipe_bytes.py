"""Read the bytes of a recipe from a tensor, even if a tool converted it to floats."""

from typing import TYPE_CHECKING

import numpy as np

from lottapack.errors import CheckpointError
from lottapack.format import dtypes

if TYPE_CHECKING:
    import torch

_ROUNDING = 0.125
"""The most that a float may differ from its byte: half a unit in the last place of bfloat16 below 64."""


def bytes_of(tensor: "torch.Tensor", name: str) -> bytes:
    """Return the bytes in a one-dimensional uint8 tensor. Raises CheckpointError, which calls the tensor ``name``.

    Tools that convert or average checkpoints turn all tensors into floats. Every float dtype holds the numbers 0 to 255
    exactly. A moving average rounds them, and a value near exactly one byte is taken as that byte.
    """
    if not hasattr(tensor, "is_meta"):
        raise CheckpointError(
            f"{name} is a {type(tensor).__module__}.{type(tensor).__name__}, not a torch.Tensor",
            hint="Convert the state_dict: {name: torch.as_tensor(value) for name, value in state.items()}.",
        )
    dtype = dtypes.dtype_name(tensor.dtype)
    if tensor.is_meta or tensor.dim() != 1 or tensor.dtype.is_complex or tensor.is_quantized:
        raise CheckpointError(
            f"{name} has dtype {dtype} and shape {tuple(tensor.shape)} on {tensor.device}; a recipe is one-dimensional "
            "uint8",
            hint="Leave this tensor unchanged when you convert or move a checkpoint.",
        )
    values = tensor.detach().cpu().double().numpy()
    nearest = np.rint(values)
    with np.errstate(invalid="ignore"):
        is_bytes = np.all((np.abs(values - nearest) <= _ROUNDING) & (nearest >= 0) & (nearest <= 255))
    if not is_bytes:
        raise CheckpointError(
            f"{name} has dtype {dtype} and values that are not bytes: it was changed, or averaged over different "
            f"models",
            hint=f"Restore it from the original checkpoint: state[{name!r}] = saved[{name!r}].",
        )
    return bytes(nearest.astype(np.uint8).data)
