"""Memory that never lies in a heap: for blocks of generated weights, and for large results.

glibc takes mappings for what is large, but calls ever larger sizes small (up to 32 MiB) once such are freed. A block is
needed for a moment; freed before the tensors that were made meanwhile, it leaves a hole between them, and so a training
step of a 300M Llama left 300 MB of holes. What a backward pass keeps of results goes all at once, but the heap stays as
large. So both have mappings of their own: one that is used again by block after block, and one for each large result,
which goes back to the system with it.
"""

import mmap
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor

IDLE: Final = 2
"""Mappings that are kept while nothing uses them: what one product has at most, or two threads with a product each."""

_LEAST: Final = 1 << 23
"""Bytes of a mapping at least, so that one serves many sizes; what was never written to takes no memory."""

LARGE: Final = 1 << 20
"""Bytes of a result from which on it has a mapping: 256 page faults are little beside such a product."""

# Taking and giving back are single operations of a deque, which threads share safely without a lock, so that none can
# be held while a process forks; a fork copies the mappings, which are private. A full deque drops the oldest.
_idle: deque[mmap.mmap] = deque(maxlen=IDLE)


@contextmanager
def scratch(count: int, dtype: torch.dtype, device: torch.device) -> Iterator[Tensor]:
    """A tensor of shape (count,), with any values, whose memory is used again afterwards.

    It is nobody else's meanwhile: other threads, and calls inside, get other memory. On a device that is not a CPU,
    it comes from torch, whose allocators there keep what is freed anyway.
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
    """A mapping of at least so many bytes. One that lay idle and is too small is given up."""
    try:
        held = _idle.pop()
    except IndexError:
        held = None
    if held is not None and len(held) >= size:
        return held
    return _mapped(max(size, _LEAST))


def result(like: Tensor, rows: int, columns: int, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of shape (rows, columns), with any values, on the device of ``like``, and of its dtype by default."""
    dtype = dtype or like.dtype
    size = rows * columns * dtype.itemsize
    if like.device.type != "cpu" or size < LARGE:
        return like.new_empty(rows, columns, dtype=dtype)
    return torch.frombuffer(_mapped(size), dtype=dtype).view(rows, columns)


def _mapped(size: int) -> mmap.mmap:
    """So many bytes of the system's, which gets them back when nothing refers to them."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
