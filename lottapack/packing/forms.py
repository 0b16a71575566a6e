"""The forms in which pack() can store a tensor, with the decoded values and their error."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from lottapack.codecs import Codec
from lottapack.codecs.faults import UnfitError
from lottapack.errors import CheckpointError
from lottapack.format import dtypes
from lottapack.weights.rebuild import tensor_bytes


def errors(before: Tensor, after: Tensor) -> tuple[float, float, float]:
    """Return the largest, mean and root mean square error, relative to the root mean square of ``before``."""
    if not before.numel() or not before.is_floating_point() or before is after:
        return 0.0, 0.0, 0.0
    worst, total, squares, wrong = 0.0, 0.0, 0.0, 0.0
    for old, new in zip(_pieces(before), _pieces(after), strict=True):
        wide = old.double()
        difference = (new.double() - wide).abs_()
        worst = max(worst, float(difference.max()))
        total += float(difference.sum())
        squares += float(wide.square_().sum())
        wrong += float(difference.square_().sum())
    size = math.sqrt(squares / before.numel())
    if worst == 0:
        return 0.0, 0.0, 0.0
    if not size:
        return math.inf, math.inf, math.inf
    return worst / size, total / before.numel() / size, math.sqrt(wrong / before.numel()) / size


def _pieces(tensor: Tensor) -> Iterable[Tensor]:
    return torch.split(tensor.reshape(-1), 1 << 18)


def coded(codec: Codec, name: str, tensor: Tensor, error: float) -> tuple[Tensor, dict[str, Tensor]] | None:
    """Return the decoded tensor and its coded tensors by part, or None if the coding does not suit the tensor.

    ``tensor``: contiguous, on the CPU. ``error``: for a coding that aims at one. Raises CheckpointError for values that
    the coding cannot hold.
    """
    shape, dtype = tuple(tensor.shape), dtypes.dtype_name(tensor.dtype)
    try:
        made = codec.encode(tensor_bytes(tensor), shape, dtype, error)
    except UnfitError as fault:
        raise CheckpointError(f"{name} {fault}", hint=fault.hint) from fault
    if made is None:
        return None
    decoded = tensor
    if not codec.exact:
        decoded = torch.empty_like(tensor)
        out = memoryview(tensor_bytes(decoded) or bytearray())
        codec.decode({part: array.data for part, array in made.items()}, shape, dtype, out)
    parts = {}
    for part, (kind, size) in codec.parts(shape).items():
        held = torch.from_numpy(made[part].view(np.uint8)).view(dtypes.torch_dtype(kind))
        parts[part] = held if size is None else held.view(size)
    return decoded, parts


def size_of(parts: Mapping[str, Tensor]) -> int:
    """Return the bytes of coded tensors."""
    return sum(part.numel() * part.element_size() for part in parts.values())
