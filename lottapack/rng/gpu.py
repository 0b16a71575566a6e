"""The GPU backend: Triton kernels that fill any number of tensors in one launch. Imports Triton, which torch brings."""

import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any, Final

import torch
import triton
from torch import Tensor

from lottapack.errors import UnsupportedError
from lottapack.rng import gpu_kernels as kernels
from lottapack.rng.jobs import Job
from lottapack.rng.stream import WORDS, Source
from lottapack.rng.tables import Table, builtin, check_scale
from lottapack.rng.torch_ops import signed

INTERPRETED: Final = not isinstance(kernels.generate, triton.JITFunction)
"""Whether Triton interprets its kernels on the CPU (TRITON_INTERPRET)."""

_FORMS: Final = {"float32": 0, "bfloat16": 1, "float16": 2}
_BLOCKS: Final = {16: 4, 8: 2, 4: 1, 2: 1, 1: 1}
"""The blocks of words that a program generates, by the table's bits: 8,192 elements or more."""
_STEPS: Final = 16
"""The groups of 1,024 elements that a program reads of a tensor for its fingerprint."""
_FAULTS: Final = (triton.TritonError, RuntimeError, OSError, subprocess.SubprocessError, AttributeError, TypeError)
"""What Triton raises if it lacks a compiler, a driver, a supported processor, or a function of a later version."""


def fill(tensor: Tensor, source: Source, start: int) -> None:
    """Fill ``tensor`` (contiguous, of the source's dtype) with elements from index ``start`` on (spec: stream)."""
    generate([Job(source, start, tensor.numel(), tensor)], tensor.device)


def fingerprint(tensor: Tensor, start: int) -> int:
    """Return the fingerprint of contiguous ``tensor``, whose first element has index ``start`` (spec: fingerprint)."""
    count, wide = tensor.numel(), tensor.element_size() == 4
    sums = torch.zeros(1, dtype=torch.int64, device=tensor.device)
    if count:
        flat = tensor.detach().view(-1).view(torch.int32 if wide else torch.int16)
        programs = -(-count // (_STEPS * WORDS))
        with _running(tensor.device):
            kernels.fingerprint[(programs,)](flat, sums, start, count, STEPS=_STEPS, WIDE=wide)
    return int(sums.item()) % 2**64


def generate(jobs: Sequence[Job], device: torch.device, *, sums: bool = False) -> list[int]:
    """Run all jobs, whose tensors are on ``device``, in one launch for each table and dtype.

    If ``sums``, returns the fingerprint of each job's elements, counted from the job's start. Otherwise returns nothing
    and does not wait for the device. Raises UnsupportedError if a scale does not fit, or Triton cannot compile.
    """
    groups: dict[tuple[Table, str, bool], list[int]] = {}
    for index, job in enumerate(jobs):
        check_scale(job.source.table, job.source.scale, job.source.dtype)
        if job.count:
            key = job.source.table, job.source.dtype, job.tensor is not None
            groups.setdefault(key, []).append(index)
    totals = torch.zeros(len(jobs), dtype=torch.int64, device=device) if sums else None
    for (table, dtype, store), indices in groups.items():
        part = _launch([jobs[index] for index in indices], table, dtype, device, store, sums)
        if totals is not None:
            totals[torch.tensor(indices, dtype=torch.int64, device=device)] = part
    return [] if totals is None else [total % 2**64 for total in totals.tolist()]


def probe(kind: str) -> None:
    """Compile and run the kernels on a kind of device. Raises UnsupportedError with the reason if that fails."""
    if INTERPRETED and kind != "cpu":
        raise UnsupportedError(
            f"Triton interprets its kernels on the CPU and cannot write to {kind!r}", hint="Unset TRITON_INTERPRET."
        )
    sample = torch.zeros(1, dtype=torch.float32, device=kind)
    fill(sample, Source(0, "probe", builtin("sign1"), 1.0, "float32"), 0)
    fingerprint(sample, 0)


def _launch(jobs: Sequence[Job], table: Table, dtype: str, device: torch.device, store: bool, sums: bool) -> Tensor:
    """Launch the kernel once; return the sums, shape (jobs,), int64."""
    blocks = _BLOCKS[table.bits]
    rows, programs = _rows(jobs, WORDS * (32 // table.bits), blocks)
    totals = torch.zeros(len(jobs) if sums else 0, dtype=torch.int64, device=device)
    uniform = table.id == "uniform16"
    with _running(device):
        kernels.generate[(programs,)](
            torch.tensor(rows, dtype=torch.int64, device="cpu").to(device),
            totals,
            _on_device(table, device),
            1 << (len(rows) - 1).bit_length() >> 1,
            len(rows),
            BLOCKS=blocks,
            BITS=table.bits,
            FORM=_FORMS[dtype],
            UNIFORM=uniform,
            STORE=store,
            SUM=sums,
            enable_fp_fusion=False,
        )
    return totals


def _rows(jobs: Sequence[Job], served: int, blocks: int) -> tuple[list[list[int]], int]:
    """Return the kernel's row for each tensor (columns ``_POINTER`` to ``_BLOCK``), and the number of programs."""
    rows, programs = [], 0
    for job in jobs:
        first, last = job.start // served, (job.start + job.count - 1) // served
        scale = int.from_bytes(struct.pack("<f", job.source.scale), "little")
        address = 0 if job.tensor is None else job.tensor.data_ptr()
        stream, seed = signed(job.source.stream), signed(job.source.seed)
        rows.append([signed(address), job.start, job.count, stream, seed, scale, programs, first])
        programs += -(-(last - first + 1) // blocks)
    return rows, programs


@lru_cache(maxsize=8)
def _on_device(table: Table, device: torch.device) -> Tensor:
    """Return the entries as float32 on the device."""
    return torch.from_numpy(table.values.copy()).to(device)


@contextmanager
def _running(device: torch.device) -> Iterator[None]:
    """Launch on that device, and turn what Triton raises into UnsupportedError."""
    current: Callable[[torch.device], AbstractContextManager[Any]]
    current = nullcontext if device.type == "cpu" else torch.get_device_module(device).device
    with current(device):
        try:
            yield
        except _FAULTS as fault:
            reason = (str(fault).strip().splitlines() or [""])[-1]
            raise UnsupportedError(
                f"Triton {triton.__version__} cannot compile or run its kernels on '{device}': "
                f"{type(fault).__name__}: {reason}",
                hint="Generate on the CPU, or repair Triton: it needs a C compiler, and a driver and device that it "
                "supports. Without Triton, plain torch operations generate the same bits more slowly.",
            ) from fault
