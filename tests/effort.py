"""What work costs, without a clock: calls are counted, which gives the same number on every machine, however busy."""

import cProfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

HANG = 60.0
"""Processor seconds. What is tested takes under a tenth of that on a slow machine; its faults took minutes."""


@contextmanager
def at_most(calls: int) -> Iterator[None]:
    """Fail if this thread calls more functions in the block than that, of Python or of C, or if the block hangs."""
    profile = cProfile.Profile()
    with ends():
        profile.enable()
        try:
            yield
        finally:
            profile.disable()
    made = sum(entry.callcount for entry in profile.getstats())
    assert made <= calls, f"{made:,} calls"


@contextmanager
def ends() -> Iterator[None]:
    """Fail if the process needs more than HANG for the block. Other processes do not count."""
    begin = time.process_time()
    yield
    taken = time.process_time() - begin
    assert taken < HANG, f"{taken:.0f} s"
