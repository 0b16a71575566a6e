"""Work in pieces over one pool of threads. Its tasks are kernels that hold no lock."""

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
"""Elements in a piece: a multiple of what a block of words serves, well above the price of handing it out."""

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_inside = threading.local()


def default() -> int:
    """How many threads to use: torch's own setting where torch is in use, else the CPUs of this process."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return int(torch.get_num_threads())
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def spread(start: int, stop: int, work: Callable[[int, int], T], threads: int) -> list[T]:
    """``work(lo, hi)`` for the pieces of [start, stop), cut at multiples of PIECE; the results, in any order."""
    cuts = [start, *range((start // PIECE + 1) * PIECE, stop, PIECE), stop]
    return run_all([partial(work, lo, hi) for lo, hi in pairwise(cuts) if lo < hi], threads)


def run_all(tasks: Sequence[Callable[[], T]], threads: int) -> list[T]:
    """Run all tasks on ``threads`` threads, the caller's among them; the results, in any order.

    Threads take the next task when they are done with one, so none waits for a slower one. A task's own calls of
    run_all() and spread() stay in its thread. The first error stops the taking of tasks, and is raised.
    """
    if len(tasks) == 1:
        return [tasks[0]()]
    turns, stop = count(), threading.Event()

    def run() -> list[T]:
        results = []
        outermost, _inside.value = not getattr(_inside, "value", False), True
        try:
            while not stop.is_set() and (turn := next(turns)) < len(tasks):
                results.append(tasks[turn]())
        except BaseException:
            stop.set()
            raise
        finally:
            _inside.value = not outermost
        return results

    others = 0 if getattr(_inside, "value", False) else min(threads, len(tasks)) - 1
    futures = [_executor().submit(run) for _ in range(others)]
    try:
        results = run()
    finally:
        begun = [future for future in futures if not future.cancel()]
        wait(begun)  # tasks write into memory of the caller's
    # Popped, so that no variable of this frame holds the future of a task that failed: its error's traceback leads back
    # to this frame, and all that the callers hold would stay until Python looks for cycles.
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
    """A forked child has the pool's records, but none of its threads."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
