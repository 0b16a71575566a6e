"""The bits of a tensor, which need not be laid out as torch's views of other types want them."""

from typing import Final

import torch
from torch import Tensor

from lottapack.errors import ArchitectureError

_COMPRESSED: Final = {
    torch.sparse_csr: ("crow_indices", "col_indices"),
    torch.sparse_bsr: ("crow_indices", "col_indices"),
    torch.sparse_csc: ("ccol_indices", "row_indices"),
    torch.sparse_bsc: ("ccol_indices", "row_indices"),
}


def flat_bytes(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor in the order of its elements, in one dimension; of its own memory if it can be.

    A single element may have any stride, and a view may be the negative or the conjugate of its memory.
    """
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.as_strided(flat.shape, (1,)).view(torch.uint8)


def parts(tensor: Tensor) -> list[Tensor]:
    """Return the dense tensors of which a sparse one consists, or a dense one itself. Raises ArchitectureError.

    For what a constructor makes on the way to its weights.
    """
    if tensor.layout is torch.strided and not tensor.is_nested:
        return [tensor]
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in _COMPRESSED:
        return [*(getattr(tensor, name)() for name in _COMPRESSED[tensor.layout]), tensor.values()]
    raise ArchitectureError(
        f"its constructor makes a {kind_of(tensor)} tensor, whose size is unknown", hint="Use dense or sparse ones."
    )


SPARSE: Final = frozenset(str(layout).removeprefix("torch.") for layout in (torch.sparse_coo, *_COMPRESSED))
"""What kind_of() says of tensors that parts() takes apart."""


def bytes_of(tensor: Tensor) -> int:
    """Return the size of what a dense or a sparse tensor holds."""
    return sum(part.nbytes for part in parts(tensor))


def kind_of(tensor: Tensor) -> str:
    """Return how a tensor holds its values, in one word: strided, quantized, nested or a sparse layout."""
    if tensor.is_quantized:
        return "quantized"
    return "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.").removeprefix("_")
