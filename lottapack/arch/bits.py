"""The bits of a tensor, which need not be laid out as torch's views of other types want them."""

import torch
from torch import Tensor


def flat_bytes(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor in the order of its elements, in one dimension; of its own memory if it can be.

    A single element may have any stride, and a view may be the negative or the conjugate of its memory.
    """
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.as_strided(flat.shape, (1,)).view(torch.uint8)
