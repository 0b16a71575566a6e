"""The forms in which pack() can keep a tensor, each with what it decodes to; and how near that is."""

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
    """The largest, the mean and the root mean square error, as parts of the root mean square of ``before``."""
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
    """The decoded tensor, and its codes and scales. Raises CheckpointError for values that have none."""
    values = tensor.reshape(-1).float()
    _require_finite(name, values, coding)
    try:
        codes, scales = encode_blocks(values.numpy(), dtype, coding)
    except ValueError as fault:
        raise CheckpointError(f"{name} {fault} in {coding}", hint="Keep it as it is.") from fault
    decoded = torch.empty_like(tensor)
    out = memoryview(tensor_bytes(decoded) or bytearray())
    entry = Stored(shape=tuple(tensor.shape), dtype=dtype, group="other", trained=True, sha256="")
    codings.decode_into(entry, Coding(id=coding, codes=""), {"codes": codes.data, "scales": scales.data}, out)
    halves = torch.from_numpy(scales.view(np.float16))
    return decoded, {"codes": torch.from_numpy(codes), "scales": halves}


def trellis(name: str, tensor: Tensor, dtype: str, error: float) -> tuple[Tensor, dict[str, Tensor]] | None:
    """The decoded tensor and its codes, or None where the coding does not serve."""
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
    """The tensor in a narrower dtype. Raises CheckpointError for values beyond it."""
    _require_finite(name, tensor, dtype)
    made = tensor.to(dtypes.torch_dtype(dtype))
    if not bool(made.isfinite().all()):
        largest = float(tensor.abs().max())
        raise CheckpointError(
            f"{name} holds {largest:.6g}, which is beyond {dtype}",
            hint="Nothing was written. bfloat16 has the range of float32.",
        )
    return made


def _require_finite(name: str, tensor: Tensor, form: str) -> None:
    if not bool(tensor.isfinite().all()):
        raise CheckpointError(
            f"{name} holds infinity or NaN, which {form} does not keep", hint=f"Use {codings.PLANES}, or train again."
        )


def in_planes(tensor: Tensor) -> Tensor:
    """The codes of ``planes-zlib``."""
    flat = tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else np.empty(0, np.uint8)
    stream = bytearray(planes(flat, tensor.element_size()))
    return torch.frombuffer(stream, dtype=torch.uint8)
