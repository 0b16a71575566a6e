"""The forms in which pack() can store a tensor, with the decoded values and their error."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from lottapack.codecs import trellis_writer
from lottapack.errors import CheckpointError
from lottapack.format import codings, dtypes
from lottapack.format.descriptor import Coding, Stored
from lottapack.format.encoding import encode_blocks, planes
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


def blocks(name: str, tensor: Tensor, dtype: str, coding: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the decoded tensor, and its codes and scales. Raises CheckpointError for values that cannot be coded."""
    values = tensor.reshape(-1).float()
    _require_finite(name, values, coding)
    try:
        codes, scales = encode_blocks(values.numpy(), dtype, coding)
    except ValueError as fault:
        raise CheckpointError(f"{name} {fault} in {coding}", hint="Leave its group out of `coding`.") from fault
    decoded = torch.empty_like(tensor)
    out = memoryview(tensor_bytes(decoded) or bytearray())
    entry = Stored(shape=tuple(tensor.shape), dtype=dtype, group="other", trained=True, sha256="")
    codings.decode_into(entry, Coding(id=coding, codes=""), {"codes": codes.data, "scales": scales.data}, out)
    halves = torch.from_numpy(scales.view(np.float16))
    return decoded, {"codes": torch.from_numpy(codes), "scales": halves}


def trellis(name: str, tensor: Tensor, dtype: str, error: float) -> tuple[Tensor, dict[str, Tensor]] | None:
    """Return the decoded tensor and its codes, or None if the coding does not suit the tensor."""
    values = tensor.reshape(-1).float()
    _require_finite(name, values, codings.TRELLIS)
    made = trellis_writer.encode(values.numpy(), tuple(tensor.shape), error, dtype)
    if made is None or codings.MOST_GROWTH * len(made) < tensor.numel() * tensor.element_size():
        return None
    decoded = torch.empty_like(tensor)
    entry = Stored(shape=tuple(tensor.shape), dtype=dtype, group="other", trained=True, sha256="")
    out = memoryview(tensor_bytes(decoded))
    codings.decode_into(entry, Coding(id=codings.TRELLIS, codes=""), {"codes": made}, out)
    return decoded, {"codes": torch.frombuffer(bytearray(made), dtype=torch.uint8)}


def narrowed(name: str, tensor: Tensor, dtype: str) -> Tensor:
    """Return the tensor in a narrower dtype. Raises CheckpointError for values outside its range."""
    _require_finite(name, tensor, dtype)
    made = tensor.to(dtypes.torch_dtype(dtype))
    if not bool(made.isfinite().all()):
        largest = float(tensor.abs().max())
        raise CheckpointError(
            f"{name} contains {largest:.6g}, which is outside the range of {dtype}",
            hint="Nothing was written. Use bfloat16, which has the range of float32.",
        )
    return made


def _require_finite(name: str, tensor: Tensor, form: str) -> None:
    if not bool(tensor.isfinite().all()):
        raise CheckpointError(
            f"{name} contains infinity or NaN, which {form} cannot store", hint=f"Use {codings.PLANES}, or train again."
        )


def in_planes(tensor: Tensor) -> Tensor:
    """Return the codes of ``planes-zlib``."""
    flat = tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else np.empty(0, np.uint8)
    stream = bytearray(planes(flat, tensor.element_size()))
    return torch.frombuffer(stream, dtype=torch.uint8)
