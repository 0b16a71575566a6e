"""Refuse tensors that share memory without being one tensor: each would be drawn, trained and rebuilt by itself."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from lottapack.arch.hidden import memory_of
from lottapack.errors import ScaffoldError
from lottapack.nn.select import Entry


def require_apart(entries: Sequence[Entry]) -> None:
    """Raise ScaffoldError if entries of a state_dict share memory without being tied, as after ``a.data = b.data``."""
    together = defaultdict(list)
    for entry in entries:
        if not entry.tied and entry.tensor.layout is torch.strided and entry.tensor.numel():
            together[memory_of(entry.tensor)].append(entry)
    for sharing in together.values():
        reaching: list[Entry] = []  # those of the earlier ones that end behind the beginning of this one
        for entry in sorted(sharing, key=lambda entry: _span(entry.tensor)):
            begin, _ = _span(entry.tensor)
            reaching = [earlier for earlier in reaching if _span(earlier.tensor)[1] > begin]
            for earlier in reaching:
                _require_apart(earlier, entry)
            reaching.append(entry)


def _require_apart(first: Entry, second: Entry) -> None:
    if _overlap(first.tensor, second.tensor):
        raise ScaffoldError(
            f"{second.name} shares memory with {first.name} and is another tensor, so that both would be drawn there, "
            "and a rebuilt model would have two copies",
            hint="Setting `data` does not tie parameters. Tie them by assigning the parameter itself "
            "(`b.weight = a.weight`), or give each memory of its own with `.clone()`.",
        )


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return the first byte of a tensor in its storage, and the one after its last."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    first, size = int(tensor.storage_offset()), tensor.element_size()
    return first * size, (first + int(last) + 1) * size


def _overlap(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors of one storage, whose spans do overlap, have an element in common."""
    if first.dtype != second.dtype or (first.is_contiguous() and second.is_contiguous()):
        return True
    end = max(_span(first)[1], _span(second)[1]) // first.element_size()
    marks = torch.zeros(end, dtype=torch.bool, device="cpu")
    marks.as_strided(first.shape, first.stride(), first.storage_offset()).fill_(True)
    return bool(marks.as_strided(second.shape, second.stride(), second.storage_offset()).any())
