"""Compare tensors by their bits."""

import torch
from torch import Tensor

from lottapack.arch.bits import flat_bytes


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have the same dtype, shape and bits."""
    if one is other:
        return True
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(flat_bytes(one), flat_bytes(other))


def constant_bits(tensor: Tensor) -> str | None:
    """Return the bits of the one value that all elements have, as big-endian hex; None if they differ or are empty."""
    if not tensor.numel():
        return None
    rows = flat_bytes(tensor.cpu()).view(tensor.numel(), tensor.element_size())
    return bytes(rows[0].tolist())[::-1].hex() if bool((rows == rows[0]).all()) else None
