"""Use huge pages for large tensors, where the system provides them cheaply.

Page faults of 4 KiB would take more than half of the CPU time of loading a large model; with pages of 2 MiB they take a
tenth of that. Linux gives huge pages on request where ``transparent_hugepage/enabled`` says ``madvise``; with
``always`` it gives them without a request, with ``never`` it does not. A virtual machine, however, may have
returned its unused memory to its host one huge page at a time, and fetching a page back can take twenty times as
long as clearing it. Small pages come from the memory that is left. So each page is timed, and after a few slow ones
the rest is taken in small pages.
"""

import ctypes
import math
import time
from functools import cache, partial
from pathlib import Path
from typing import Final

from torch import Tensor

from lottapack.rng.threads import default, run_all

HUGE: Final = 1 << 21
"""The bytes of a huge page (x86-64, and arm64 with pages of 4 KiB)."""
_SETTINGS: Final = Path("/sys/kernel/mm/transparent_hugepage")
_PAGE: Final = 4096
_HUGEPAGE, _NOHUGEPAGE, _POPULATE_WRITE = 14, 15, 23
_SMALL_S: Final = 0.0005
"""The seconds that HUGE bytes of small pages take; clearing a huge page takes a fifth of that."""
_MOST_LOST_S: Final = 0.01
_RUN: Final = 16
"""The huge pages that a thread takes at a time."""


class HugePages:
    """Huge pages for the tensors of one load. Threads may share it.

    ``small_s``: the processor seconds that small pages of the same size would take.
    """

    def __init__(self, small_s: float = _SMALL_S) -> None:
        self._small_s = small_s
        self._lost_s = 0.0  # seconds lost against small pages since huge pages last saved time

    @property
    def _dear(self) -> bool:
        return self._lost_s > _MOST_LOST_S

    def advise(self, tensor: Tensor) -> Tensor:
        """Request huge pages for new memory, before anything is written to it; return the tensor."""
        if not self._dear and _concerns(tensor):
            _madvise()(*_pages(tensor), _HUGEPAGE)
        return tensor

    def touch(self, tensor: Tensor) -> Tensor:
        """Allocate the memory of a tensor after advise(); return the tensor."""
        if _concerns(tensor):
            first, size = _pages(tensor)
            whole = range(-(-first // HUGE) * HUGE, (first + size) // HUGE * HUGE, HUGE)
            runs = [whole[i : i + _RUN] for i in range(0, len(whole), _RUN)]
            run_all([partial(self._touch, run) for run in runs], default())
            if self._dear:
                _madvise()(first, size, _NOHUGEPAGE)  # for the pages that are not allocated yet
        return tensor

    def take(self, tensor: Tensor) -> Tensor:
        """Call advise() and touch(), for a tensor that is filled at once."""
        return self.touch(self.advise(tensor))

    def _touch(self, pages: range) -> None:
        for address in pages:
            if self._dear:
                return
            begin = time.thread_time()  # wall time would count waiting for a processor or the GIL
            if _madvise()(address, HUGE, _POPULATE_WRITE):  # fails before Linux 5.14: without timing, no huge pages
                self._lost_s = math.inf
            self._lost_s = max(0.0, self._lost_s + time.thread_time() - begin - self._small_s)


def _concerns(tensor: Tensor) -> bool:
    size = tensor.numel() * tensor.element_size()
    return size >= HUGE and tensor.device.type == "cpu" and available()


def _pages(tensor: Tensor) -> tuple[int, int]:
    """Return the address and the size in bytes of the pages that hold the tensor."""
    begin, end = tensor.data_ptr(), tensor.data_ptr() + tensor.numel() * tensor.element_size()
    first = begin // _PAGE * _PAGE
    return first, -(-end // _PAGE) * _PAGE - first


@cache
def available() -> bool:
    """Return whether this system gives huge pages of HUGE bytes only on request."""
    try:
        size = int((_SETTINGS / "hpage_pmd_size").read_text())
        return size == HUGE and "[madvise]" in (_SETTINGS / "enabled").read_text()
    except OSError:  # another system
        return False


@cache
def _madvise() -> "ctypes._NamedFuncPointer":
    function = ctypes.CDLL(None).madvise
    function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int), ctypes.c_int
    return function
