"""Split work into pieces for one pool of threads. The tasks are kernels, which do not hold the interpreter's lock."""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from itertools import count, pairwise
from typing import Final, TypeVar

T = TypeVar("T")

PIECE: Final = 1 << 18
"""The elements of a piece: a multiple of a block's, and enough to outweigh the cost of starting it."""

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_inside = threading.local()


def default() -> int:
    """Return the number of threads to use: torch's setting if torch is loaded, else the CPUs of this process."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return int(torch.get_num_threads())
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_inside() -> bool:
    """Return whether this thread runs a task of run_all()."""
    return getattr(_inside, "value", False)


def spread(start: int, stop: int, work: Callable[[int, int], T], threads: int) -> list[T]:
    """Call ``work(lo, hi)`` for pieces of [start, stop), cut at multiples of PIECE; return the results in any order."""
    return run_all([partial(work, *piece) for piece in pieces(start, stop)], threads)


def pieces(start: int, stop: int, size: int = PIECE) -> list[tuple[int, int]]:
    """Return ranges that make up [start, stop), cut at multiples of ``size``."""
    cuts = [start, *range((start // size + 1) * size, stop, size), stop]
    return [(lo, hi) for lo, hi in pairwise(cuts) if lo < hi]


def run_all(tasks: Sequence[Callable[[], T]], threads: int) -> list[T]:
    """Run all tasks on ``threads`` threads, including the caller's; return the results in any order.

    Each thread takes the next task when it has finished one, so none waits for a slower one. If a task calls run_all()
    or spread() itself, that work stays in its thread. After the first error, no more tasks start, and it is raised.
    """
    if len(tasks) == 1:
        return [tasks[0]()]
    turns, stop = count(), threading.Event()

    def run() -> list[T]:
        results = []
        outermost, _inside.value = not is_inside(), True
        try:
            while not stop.is_set() and (turn := next(turns)) < len(tasks):
                results.append(tasks[turn]())
        except BaseException:
            stop.set()
            raise
        finally:
            _inside.value = not outermost
        return results

    others = 0 if is_inside() else min(threads, len(tasks)) - 1
    futures = [_executor().submit(run) for _ in range(others)]
    try:
        results = run()
    finally:
        begun = [future for future in futures if not future.cancel()]
        wait(begun)  # the tasks write into the caller's memory
    # The futures are popped, because a variable of this frame that holds a failed task's future makes a reference cycle
    # through the error's traceback, which would keep all that the callers hold until the garbage collector runs.
    futures.clear()
    while begun:
        results += begun.pop(0).result()
    return results


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="lottapack")
        return _pool


def _forget() -> None:
    """Drop the pool in a forked child, which has its records but none of its threads."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
