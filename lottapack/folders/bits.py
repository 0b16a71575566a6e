"""Compare tensors by their bits."""

import torch
from torch import Tensor


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have the same dtype, shape and bits."""
    if one is other:
        return True
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    first, second = (tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(first, second)


def constant_bits(tensor: Tensor) -> str | None:
    """Return the bits of the one value that all elements have, as big-endian hex; None if they differ or are empty."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if not flat.numel():
        return None
    rows = flat.view(torch.uint8).view(flat.numel(), flat.element_size())
    return bytes(rows[0].tolist())[::-1].hex() if bool((rows == rows[0]).all()) else None
