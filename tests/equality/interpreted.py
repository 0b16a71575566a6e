"""Triton kernels under its interpreter, in their own process, since the mode is set before import.

Sources and bits travel between the processes; the caller computes the expected values.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

Piece = tuple[str, str, int, int]
"""A table, a dtype, a start and a count; the source is that of the equality cases."""
LIMIT = 600
"""Seconds for one call, and more for the first, which imports torch."""


class Interpreter:
    """Calls functions of this module in the process."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._pool.submit(function, *arguments).result(timeout=LIMIT)


@contextmanager
def interpreter() -> Iterator[Interpreter]:
    pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_begin)
    try:
        yield Interpreter(pool)
    finally:
        for process in list((pool._processes or {}).values()):
            process.terminate()  # a kernel that never ends would block the tests
        pool.shutdown()


def _begin() -> None:
    os.environ["TRITON_INTERPRET"] = "1"
    warnings.simplefilter("error")
    import torch

    torch.set_num_threads(1)
    from lottapack.rng import backends, gpu

    assert gpu.INTERPRETED
    for number, backend in enumerate(backends._backends):
        if backend.name == "triton":  # as if the CPU were a GPU
            backends._backends[number] = replace(backend, supports=lambda kind: kind == "cpu", fault=lambda _: None)
    backends._backends.sort(key=lambda backend: backend.name != "triton")


def chosen() -> str:
    from lottapack.rng import backends

    return backends.select("cpu").name


def filled(piece: Piece, seed: int, name: str) -> tuple[np.ndarray, int]:
    """Return a tensor's bits from the filling kernel, and its fingerprint from the reading kernel."""
    from equality_cases import bits_of, blank, source

    from lottapack.rng import gpu

    table, dtype, start, count = piece
    one = source(table, dtype, seed=seed, name=name)
    tensor = blank(one, count)
    gpu.fill(tensor, one, start)
    return bits_of(tensor).copy(), gpu.fingerprint(tensor, start)


def at_once(pieces: list[Piece], store: bool = True) -> tuple[list[np.ndarray], list[int], int]:
    """Fill all pieces in one call; return bits, fingerprints and the number of launches.

    The tensors lie side by side in one buffer, separated by an element that must not change, at
    addresses of no special alignment.
    """
    import torch
    from equality_cases import bits_of, source

    from lottapack.rng import gpu
    from lottapack.rng.backends import Job

    jobs, memory = [], []
    for table, dtype, start, count in pieces:
        one = source(table, dtype)
        around = torch.full((count + 2,), 777.0, dtype=getattr(torch, dtype))
        memory.append(around)
        jobs.append(Job(one, start, count, around[1:-1] if store else None))
    with _counting() as launches:
        sums = gpu.generate(jobs, torch.device("cpu"), sums=True)
    for around in memory:
        assert (around[0], around[-1]) == (777, 777)
    return [bits_of(around[1:-1]).copy() for around in memory], sums, len(launches)


def far_end(piece: Piece) -> tuple[np.ndarray, int]:
    """Return the last elements of a tensor larger than memory, and their part of its fingerprint.

    The kernel runs for these alone, with the address where the tensor would begin. ``start``, the number of elements
    before them, is a multiple of what a program makes.
    """
    import torch
    from equality_cases import bits_of, blank, source

    from lottapack.rng import gpu
    from lottapack.rng.backends import Job

    table, dtype, start, count = piece
    one = source(table, dtype)
    tensor = blank(one, count)
    describe = gpu._rows

    def rows(_: object, served: int, blocks: int) -> tuple[list[list[int]], int]:
        [row], programs = describe([Job(one, 0, start + count)], served, blocks)
        before, rest = divmod(start, served * blocks)
        assert rest == 0
        address, first_program = tensor.data_ptr() - start * tensor.element_size(), -before
        return [[address, *row[1:6], first_program, row[7]]], programs - before

    gpu._rows = rows
    try:
        sums = gpu.generate([Job(one, start, count, tensor)], torch.device("cpu"), sums=True)
    finally:
        gpu._rows = describe
    return bits_of(tensor).copy(), sums[0]


def rounded(values: np.ndarray) -> np.ndarray:
    """Round float32 values to float16 bits, as the kernels do."""
    import torch
    from rounding_kernel import SIZE, to_float16

    bits = torch.zeros(values.size, dtype=torch.int16)
    to_float16[(values.size // SIZE,)](torch.from_numpy(values.view(np.int32)), bits)
    return bits.numpy().view(np.uint16)


def loaded(path: Path, options: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Return the bits of a loaded model and the number of launches."""
    import torch

    from lottapack import load, rng

    rng.fingerprints_on(torch.device("cpu"), [])  # the known answers
    with _counting() as launches:
        model = load(path, **options)
    return bits(model), len(launches)


def verified(path: Path) -> list[tuple[str, str, str]]:
    """Return each check of verify() on the device "cpu:0", which uses torch."""
    from lottapack import verify

    return [(check.what, check.where, check.status) for check in verify(path, device="cpu:0").checks]


@contextmanager
def _counting() -> Iterator[list[None]]:
    from lottapack.rng import gpu_kernels

    launches: list[None] = []
    run = gpu_kernels.generate.run

    def counted(*given: Any, **options: Any) -> Any:
        launches.append(None)
        return run(*given, **options)

    gpu_kernels.generate.run = counted
    try:
        yield launches
    finally:
        gpu_kernels.generate.run = run


def bits(model: Any) -> dict[str, tuple[str, bytes]]:
    """Return dtype and bytes of every parameter and buffer, backbone included."""
    import torch

    named = [*model.named_parameters(), *model.named_buffers()]
    return {
        name: (str(tensor.dtype), tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        for name, tensor in named
    }
