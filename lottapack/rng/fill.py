"""Fill tensors from a source, and take their fingerprints, on any device."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from lottapack.errors import UnsupportedError
from lottapack.rng import backends, hadamard, selfcheck
from lottapack.rng.jobs import Job
from lottapack.rng.runs import Integers, check_runs, grouped
from lottapack.rng.storages import require_memory
from lottapack.rng.stream import ITEM_BITS, Source, check_range

if TYPE_CHECKING:
    import torch

_PIECE: Final = 1 << 19
"""The number of elements generated at a time when only their fingerprint is needed."""


def fill_(tensor: "torch.Tensor", source: Source, start: int = 0) -> "torch.Tensor":
    """Fill a tensor in place with elements of a source, in row-major order. The bits are the same on every device.

    Args:
        tensor: of any shape, contiguous, in the source's dtype.
        source: what is generated.
        start: the number of the first element.

    Returns:
        The tensor.

    Raises:
        UnsupportedError: the tensor is not contiguous, has another dtype or lies on a device without a backend; the
            scale does not fit the table; elements lie beyond 2**63 - 1.
        DeviceError: the device fails its known answers.

    Source:
        spec/v1/stream.md and spec/v1/tables.md.

    Examples:
        >>> source = lottapack.rng.Source(42, "weight", lottapack.rng.builtin("sign1"), 1.0, "float32")
        >>> lottapack.rng.fill_(torch.empty(2, 2), source).abs()
        tensor([[1., 1.],
                [1., 1.]])
    """
    check_range(start, tensor.numel())
    _check(tensor, source)
    _fill(_ready(tensor.device), tensor, source, start)
    return tensor


def fill_runs_(tensor: "torch.Tensor", source: Source, starts: Integers, lengths: Integers) -> "torch.Tensor":
    """Fill a tensor in place with runs of elements, one behind the other.

    For parts that are not one range: the columns of a matrix, a shard along any dimension. Long runs are filled as by
    fill_(), short ones together, by one call of the backend.

    Args:
        tensor: of any shape, contiguous, in the source's dtype.
        source: what is generated.
        starts: shape (n,), int64: the number of each run's first element. Runs ascend and do not overlap.
        lengths: shape (n,), int64: the elements of each run.

    Returns:
        The tensor.

    Raises:
        UnsupportedError: other runs, and as in fill_().
        DeviceError: the device fails its known answers.

    Source:
        spec/v1/stream.md.

    Examples:
        >>> source = lottapack.rng.Source(42, "weight", lottapack.rng.builtin("sign1"), 1.0, "float32")
        >>> part = torch.empty(4)
        >>> part = lottapack.rng.fill_runs_(part, source, numpy.array([0, 8]), numpy.array([2, 2]))
    """
    _check(tensor, source)
    check_runs(starts, lengths, tensor.numel())
    backend, flat = _ready(tensor.device), tensor.view(-1)
    if source.matrix is not None:
        hadamard.fill_runs(tensor, source, starts, lengths)
        return tensor
    done = 0
    for first, last in grouped(starts, lengths):
        count = int(lengths[first:last].sum())
        part = flat[done : done + count]
        if last - first == 1:
            backend.fill(part, source, int(starts[first]))
        elif count:
            _require_runs(backend, tensor.device)
            backend.fill_runs(part, source, starts[first:last], lengths[first:last])
        done += count
    return tensor


def fill_all_(jobs: "Sequence[tuple[torch.Tensor, Source]]", *, fingerprints: bool = False) -> list[int]:
    """Fill several tensors in place, each with its source's elements from number 0 on.

    It checks all of them before it fills any. On a GPU, one launch fills all tensors of one table and dtype.

    Args:
        jobs: tensors of any shapes, each with its source.
        fingerprints: whether to take the tensors' fingerprints too.

    Returns:
        The fingerprints, or an empty list.

    Raises:
        UnsupportedError: as in fill_().
        DeviceError: the device fails its known answers.

    Source:
        spec/v1/stream.md.

    Examples:
        >>> source = lottapack.rng.Source(42, "weight", lottapack.rng.builtin("sign1"), 1.0, "float32")
        >>> lottapack.rng.fill_all_([(torch.empty(2, 2), source), (torch.empty(3), source)])
        []
    """
    for tensor, source in jobs:
        _check(tensor, source)
    results = [0] * len(jobs)
    for device in {tensor.device for tensor, _ in jobs}:
        backend = _ready(device)
        indices = [index for index, (tensor, _) in enumerate(jobs) if tensor.device == device]
        if backend.generate is not None and all(jobs[index][1].matrix is None for index in indices):
            batch = [Job(jobs[index][1], 0, jobs[index][0].numel(), jobs[index][0]) for index in indices]
            totals = backend.generate(batch, device, fingerprints)
        else:
            for index in indices:
                _fill(backend, *jobs[index], 0)
            totals = [backend.fingerprint(jobs[index][0], 0) for index in indices] if fingerprints else []
        for index, total in zip(indices, totals, strict=fingerprints):
            results[index] = total
    return results if fingerprints else []


def fingerprints_on(device: "torch.device", jobs: Sequence[tuple[Source, int]]) -> list[int]:
    """Return the fingerprints of the tensors that sources generate on a device.

    At most a piece of a tensor is in memory at once; on a GPU, nothing is.

    Args:
        device: where the elements are generated.
        jobs: sources, each with its number of elements.

    Returns:
        A fingerprint for each source.

    Raises:
        UnsupportedError: as in fill_().
        DeviceError: the device fails its known answers.

    Source:
        spec/v1/fingerprint.md.

    Examples:
        >>> source = lottapack.rng.Source(42, "weight", lottapack.rng.builtin("sign1"), 1.0, "float32")
        >>> found = lottapack.rng.fingerprints_on(torch.device("cpu"), [(source, 100)])
        >>> found == [lottapack.rng.fingerprint_of(source, 100)]
        True
    """
    import torch

    for _, count in jobs:
        check_range(0, count)
    backend = _ready(device)
    if backend.generate is not None and all(source.matrix is None for source, _ in jobs):
        return backend.generate([Job(source, 0, count) for source, count in jobs], device, True)
    results = []
    for source, count in jobs:
        total, memory = 0, torch.empty(min(_PIECE, count), dtype=getattr(torch, source.dtype), device=device)
        for start in range(0, count, _PIECE):
            piece = memory[: min(_PIECE, count - start)]
            _fill(backend, piece, source, start)
            total += backend.fingerprint(piece, start)
        results.append(total % 2**64)
    return results


def fingerprint(tensor: "torch.Tensor", start: int = 0) -> int:
    """Return the fingerprint of a tensor.

    Args:
        tensor: of any shape, contiguous, in a dtype that can be generated.
        start: the number of its first element.

    Returns:
        64 bits.

    Raises:
        UnsupportedError: as in fill_().
        DeviceError: the device fails its known answers.

    Source:
        spec/v1/fingerprint.md.

    Examples:
        >>> lottapack.rng.fingerprint_hex(lottapack.rng.fingerprint(torch.zeros(2, 2)))
        '575da3bc9ce078f2'
    """
    dtype = _dtype(tensor)
    if dtype not in ITEM_BITS:
        raise UnsupportedError(
            f"cannot take the fingerprint of a tensor of dtype {dtype}", hint=f"Use one of {', '.join(ITEM_BITS)}."
        )
    check_range(start, tensor.numel())
    _require_contiguous(tensor)
    return _ready(tensor.device).fingerprint(tensor, start)


def _fill(backend: backends.Backend, tensor: "torch.Tensor", source: Source, start: int) -> None:
    """Fill by the backend; by plain operations what none of them has a kernel for."""
    if source.matrix is None:
        backend.fill(tensor, source, start)
    else:
        hadamard.fill(tensor, source, start)


def _check(tensor: "torch.Tensor", source: Source) -> None:
    """Raise UnsupportedError if the source cannot fill the tensor."""
    dtype = _dtype(tensor)
    if dtype != source.dtype:
        raise UnsupportedError(
            f"{source.name!r}: cannot fill a tensor of dtype {dtype} from a source of {source.dtype}",
            hint="Generate in the source's dtype, then convert the tensor.",
        )
    _require_contiguous(tensor)


def _require_contiguous(tensor: "torch.Tensor") -> None:
    import torch

    if tensor.layout != torch.strided or not tensor.is_contiguous() or tensor.is_neg():
        raise UnsupportedError(
            f"cannot use a tensor of shape {tuple(tensor.shape)} that is not contiguous, or a view of negatives",
            hint="Pass tensor.contiguous(), or fill the tensor before you take a view of it.",
        )
    require_memory(tensor)


def _ready(device: "torch.device") -> backends.Backend:
    """Return the backend for a device, after it has passed the known-answer test there."""
    import torch

    backend = backends.select(device)

    def compute(source: Source, start: int, count: int) -> int:
        answer = torch.empty(count, dtype=getattr(torch, source.dtype), device=device)
        backend.fill(answer, source, start)
        return backend.fingerprint(answer, start)

    selfcheck.ensure(backend.name, str(device), compute)
    return backend


def _require_runs(backend: backends.Backend, device: "torch.device") -> None:
    """Test the backend's runs on a device, once, by the known answers, each of which is cut into runs."""
    import numpy as np
    import torch

    def compute(source: Source, start: int, count: int) -> int:
        answer = torch.empty(count, dtype=getattr(torch, source.dtype), device=device)
        cuts = np.array([0, 1, 17, count // 2, count - 3, count])
        backend.fill_runs(answer, source, start + cuts[:-1], np.diff(cuts))
        return backend.fingerprint(answer, start)

    selfcheck.ensure(f"{backend.name}, in runs", str(device), compute)


def _dtype(tensor: "torch.Tensor") -> str:
    return str(tensor.dtype).removeprefix("torch.")
