"""Memory for the blocks of generated weights: mapped once, and used by one product after the other.

A product needs a few MB for a moment. Taken from malloc, and freed before the tensors that were made meanwhile, they
leave holes between those: a training step of a 300M Llama left 300 MB of such holes. So they have mappings of their
own, which never lie in a heap.
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
    if sys.platform == "win32":
        return mmap.mmap(-1, max(size, _LEAST))
    return mmap.mmap(-1, max(size, _LEAST), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
