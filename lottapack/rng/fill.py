"""Fill tensors from a source, and take their fingerprints, on whatever device they are."""

from typing import TYPE_CHECKING

from lottapack.errors import UnsupportedError
from lottapack.rng import backends, selfcheck
from lottapack.rng.runs import Integers, check_runs, grouped
from lottapack.rng.stream import ITEM_BITS, Source, check_range

if TYPE_CHECKING:
    import torch


def fill_(tensor: "torch.Tensor", source: Source, start: int = 0) -> "torch.Tensor":
    """Fill ``tensor``, of any shape, in place with elements ``start`` and following in row-major order; return it.

    The bits are the same on every device. Raises UnsupportedError if the tensor is not contiguous, has another
    dtype than the source or lies on a device without a backend, if the scale does not fit the table, or if elements
    lie beyond 2**63 - 1; DeviceError if the device fails its known answers. Spec: stream, tables.
    """
    found = _dtype(tensor)
    if found != source.dtype:
        raise _other_dtype(source, found)
    check_range(start, tensor.numel())
    _ready(tensor).fill(tensor, source, start)
    return tensor


def fill_runs_(tensor: "torch.Tensor", source: Source, starts: Integers, lengths: Integers) -> "torch.Tensor":
    """Fill ``tensor``, of any shape, in place with runs of elements, one behind the other; return it.

    For parts that are not one range: the columns of a matrix, a shard along any dimension. Long runs are filled as
    by fill_(), short ones together, by one call of the backend.

    ``starts``, ``lengths``: shape (n,), int64: the number of each run's first element and of its elements. Runs ascend
    and do not overlap. Raises as fill_() does, and UnsupportedError for other runs.
    """
    found = _dtype(tensor)
    if found != source.dtype:
        raise _other_dtype(source, found)
    check_runs(starts, lengths, tensor.numel())
    backend, flat = _ready(tensor), tensor.view(-1)
    done = 0
    for first, last in grouped(starts, lengths):
        count = int(lengths[first:last].sum())
        part = flat[done : done + count]
        if last - first == 1:
            backend.fill(part, source, int(starts[first]))
        elif count:
            backend.fill_runs(part, source, starts[first:last], lengths[first:last])
        done += count
    return tensor


def fingerprint(tensor: "torch.Tensor", start: int = 0) -> int:
    """The fingerprint of ``tensor``, of any shape, whose first element is number ``start`` (spec: fingerprint).

    Raises as fill_() does.
    """
    found = _dtype(tensor)
    if found not in ITEM_BITS:
        raise UnsupportedError(f"a tensor of dtype {found} has no fingerprint", hint=f"Use {', '.join(ITEM_BITS)}.")
    check_range(start, tensor.numel())
    return _ready(tensor).fingerprint(tensor, start)


def _ready(tensor: "torch.Tensor") -> backends.Backend:
    """The backend for the tensor's device, once it has given the known answers there."""
    import torch

    if tensor.layout != torch.strided or not tensor.is_contiguous():
        raise UnsupportedError(
            f"a tensor of shape {tuple(tensor.shape)} that is not contiguous cannot be used",
            hint="Pass tensor.contiguous(), or fill the whole tensor before taking a view of it.",
        )
    device, backend = tensor.device, backends.select(tensor.device)

    def compute(source: Source, start: int, count: int) -> int:
        answer = torch.empty(count, dtype=getattr(torch, source.dtype), device=device)
        backend.fill(answer, source, start)
        return backend.fingerprint(answer, start)

    selfcheck.ensure(backend.name, str(device), compute)
    return backend


def _dtype(tensor: "torch.Tensor") -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _other_dtype(source: Source, found: str) -> UnsupportedError:
    return UnsupportedError(
        f"{source.name!r}: cannot fill a tensor of dtype {found} from a source of {source.dtype}",
        hint="Generate in the source's dtype, then convert.",
    )
