"""Memory for large tensors in huge pages, where the system sells them cheaply.

Of the CPU time of loading a large model, more than half would be page faults of 4 KiB; in pages of 2 MiB it is a tenth
of that. Linux gives them for the asking (where ``transparent_hugepage/enabled`` says ``madvise``; with ``always`` it
gives them unasked, with ``never`` not). But a virtual machine may have given its unused memory back to its host, a huge
page at a time, and fetching one back can take twenty times as long as clearing it; small pages come from what is left.
So each page is timed, and after a few slow ones the rest is taken as without this module.
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
"""Bytes in a huge page (x86-64; arm64 with pages of 4 KiB)."""
_SETTINGS: Final = Path("/sys/kernel/mm/transparent_hugepage")
_PAGE: Final = 4096
_HUGEPAGE, _NOHUGEPAGE, _POPULATE_WRITE = 14, 15, 23
_SMALL_S: Final = 0.0005
"""What HUGE bytes of small pages take; clearing a huge page takes a fifth of it."""
_MOST_LOST_S: Final = 0.01
_RUN: Final = 16
"""Pages that a thread takes in one go."""


class HugePages:
    """Those of one load. Threads may share it.

    ``small_s``: seconds of a processor that small pages would take for as much memory.
    """

    def __init__(self, small_s: float = _SMALL_S) -> None:
        self._small_s = small_s
        self._lost_s = 0.0  # against small pages, since huge ones were last worth it

    @property
    def _dear(self) -> bool:
        return self._lost_s > _MOST_LOST_S

    def advise(self, tensor: Tensor) -> Tensor:
        """Ask for huge pages for new memory, before anything is written there; return it."""
        if not self._dear and _concerns(tensor):
            _madvise()(*_pages(tensor), _HUGEPAGE)
        return tensor

    def touch(self, tensor: Tensor) -> Tensor:
        """Take the memory of a tensor that was advised; return it."""
        if _concerns(tensor):
            first, size = _pages(tensor)
            whole = range(-(-first // HUGE) * HUGE, (first + size) // HUGE * HUGE, HUGE)
            runs = [whole[i : i + _RUN] for i in range(0, len(whole), _RUN)]
            run_all([partial(self._touch, run) for run in runs], default())
            if self._dear:
                _madvise()(first, size, _NOHUGEPAGE)  # changes what is not taken yet
        return tensor

    def take(self, tensor: Tensor) -> Tensor:
        """Both, for a tensor that is filled at once."""
        return self.touch(self.advise(tensor))

    def _touch(self, pages: range) -> None:
        for address in pages:
            if self._dear:
                return
            begin = time.thread_time()  # not the clock's: others may have the processor, or the interpreter's lock
            if _madvise()(address, HUGE, _POPULATE_WRITE):  # Linux before 5.14: what isn't timed isn't taken
                self._lost_s = math.inf
            self._lost_s = max(0.0, self._lost_s + time.thread_time() - begin - self._small_s)


def _concerns(tensor: Tensor) -> bool:
    size = tensor.numel() * tensor.element_size()
    return size >= HUGE and tensor.device.type == "cpu" and available()


def _pages(tensor: Tensor) -> tuple[int, int]:
    """Address and bytes of the pages that hold the tensor."""
    begin, end = tensor.data_ptr(), tensor.data_ptr() + tensor.numel() * tensor.element_size()
    first = begin // _PAGE * _PAGE
    return first, -(-end // _PAGE) * _PAGE - first


@cache
def available() -> bool:
    """Whether this system gives huge pages of HUGE bytes to those who ask, and to them only."""
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
