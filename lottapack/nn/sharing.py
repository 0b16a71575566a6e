"""Refuse tensors that share memory without being one tensor: each would be drawn, trained and rebuilt by itself."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from lottapack.errors import ScaffoldError
from lottapack.nn.select import Entry


def require_apart(entries: Sequence[Entry]) -> None:
    """Raise ScaffoldError if entries of a state_dict share memory without being tied, as after ``a.data = b.data``."""
    together = defaultdict(list)
    for entry in entries:
        if not entry.tied and entry.tensor.layout is torch.strided and entry.tensor.numel():
            together[_storage(entry.tensor)].append(entry)
    for sharing in together.values():
        in_order = sorted(sharing, key=lambda entry: _span(entry.tensor))
        for first, second in pairwise(in_order):
            if _overlap(first.tensor, second.tensor):
                raise ScaffoldError(
                    f"{second.name} shares memory with {first.name} and is another tensor, so that both would be drawn "
                    "there, and a rebuilt model would have two copies",
                    hint="Setting `data` does not tie parameters. Tie them by assigning the parameter itself "
                    "(`b.weight = a.weight`), or give each memory of its own with `.clone()`.",
                )


def _storage(tensor: Tensor) -> int:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # of a subclass without one
        return id(tensor)


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return the first byte of a tensor in its storage, and the one after its last."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    first, size = int(tensor.storage_offset()), tensor.element_size()
    return first * size, (first + int(last) + 1) * size


def _overlap(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors of one storage have an element in common; ``first`` begins first."""
    if _span(second)[0] >= _span(first)[1]:
        return False
    if first.dtype != second.dtype or (first.is_contiguous() and second.is_contiguous()):
        return True
    end = max(_span(first)[1], _span(second)[1]) // first.element_size()
    marks = torch.zeros(end, dtype=torch.bool, device="cpu")
    marks.as_strided(first.shape, first.stride(), first.storage_offset()).fill_(True)
    return bool(marks.as_strided(second.shape, second.stride(), second.storage_offset()).any())
