"""Memory outside the heap, for blocks of generated weights and for large results.

glibc uses mappings for large allocations, but raises the size that counts as large (up to 32 MiB) once such memory is
freed. A block is needed for a moment; freed before the tensors allocated meanwhile, it leaves a hole between them. A
training step of a 300M Llama left 300 MB of holes in this way. The results that a backward pass keeps are freed
together, but the heap stays as large. So both get mappings of their own: one that block after block reuses, and one for
each large result, which returns to the system with it.
"""

import mmap
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lottapack.rng.kernels.kernel import Memory

IDLE: Final = 2
"""The mappings that are kept while unused: enough for one product, or for two threads with one product each."""

_LEAST: Final = 1 << 23
"""The least bytes of a mapping, so that one serves many sizes; pages that were never written take no memory."""

LARGE: Final = 1 << 20
"""Results of at least this many bytes get a mapping: 256 page faults cost little beside such a product."""

# Taking and returning are single operations of a deque, which threads can share without a lock. So no lock can be held
# while a process forks; a fork copies the mappings, which are private. A full deque drops the oldest one.
_idle: deque[mmap.mmap] = deque(maxlen=IDLE)


@contextmanager
def scratch(count: int, dtype: torch.dtype, device: torch.device) -> Iterator[Tensor]:
    """Yield a tensor of shape (count,) with arbitrary values, whose memory is reused afterwards.

    Other threads and nested calls get other memory meanwhile. On a device that is not a CPU the tensor comes from
    torch, whose allocators there keep freed memory anyway.
    """
    if device.type != "cpu" or not count:
        yield torch.empty(count, dtype=dtype, device=device)
        return
    mapping = _taken(count * dtype.itemsize)
    try:
        yield torch.frombuffer(mapping, dtype=dtype, count=count)
    finally:
        _idle.append(mapping)


def _taken(size: int) -> mmap.mmap:
    """Return a mapping of at least this many bytes. An idle one that is too small is dropped."""
    try:
        idle = _idle.pop()
    except IndexError:
        idle = None
    if idle is not None and len(idle) >= size:
        return idle
    return mapped(max(size, _LEAST))


def result(like: Tensor, rows: int, columns: int, dtype: torch.dtype | None = None) -> Tensor:
    """Return a tensor of shape (rows, columns) with the device and, by default, dtype of ``like``."""
    dtype = dtype or like.dtype
    size = rows * columns * dtype.itemsize
    if like.device.type != "cpu" or size < LARGE:
        return like.new_empty(rows, columns, dtype=dtype)
    return torch.frombuffer(mapped(size), dtype=dtype).view(rows, columns)


def mapped(size: int) -> mmap.mmap:
    """Map this many bytes of the system's memory, which returns to it when nothing refers to them."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class _Working(threading.local):
    """The memory that a thread's kernels work in. The thread keeps it."""

    whole: Memory | None = None

    def __init__(self) -> None:
        self.parts: dict[int, Memory] = {}


_work = _Working()


def working(size: int) -> Memory:
    """Return this many 32-bit numbers with arbitrary values, which are this thread's until it asks again."""
    part = _work.parts.get(size)
    if part is None:
        if _work.whole is None or _work.whole.size < size:
            _work.whole = Memory.of(np.frombuffer(mapped(4 * size), np.uint32))
            _work.parts.clear()
        part = _work.parts[size] = _work.whole.part(0, size)
    return part
