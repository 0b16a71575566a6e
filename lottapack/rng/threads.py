"""Work in pieces over one pool of threads. Its tasks are kernels that hold no lock."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Final, TypeVar

T = TypeVar("T")

PIECE: Final = 1 << 18
"""Elements in a piece: a multiple of what a block of words serves, well above the price of handing it out."""

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def default() -> int:
    """How many threads to use: torch's own setting where torch is in use, else the CPUs of this process."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return int(torch.get_num_threads())
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def spread(start: int, stop: int, work: Callable[[int, int], T], threads: int) -> list[T]:
    """``work(lo, hi)`` for the pieces of [start, stop), cut at multiples of PIECE; the results, in any order.

    Threads take the next piece when they are done with one, so none waits for a slower one.
    """
    pieces = count(start // PIECE)

    def run() -> list[T]:
        results = []
        while (lo := (piece := next(pieces)) * PIECE) < stop:
            results.append(work(max(lo, start), min((piece + 1) * PIECE, stop)))
        return results

    others = min(threads, -(-(stop - start) // PIECE)) - 1
    if others <= 0:
        return run()
    futures = [_executor().submit(run) for _ in range(others)]
    results = run()
    for future in futures:
        results += future.result()
    return results


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="lottapack")
        return _pool


def _forget() -> None:
    """A forked child has the pool's records, but none of its threads."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
