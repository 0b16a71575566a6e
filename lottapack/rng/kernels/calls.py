"""Run the calls of a kernel side by side: on the threads of torch's operators, or on lottapack's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from lottapack.rng.kernels import team
from lottapack.rng.kernels.kernel import Kernel, Memory
from lottapack.rng.threads import default, run_all

_PAGE: Final = 1024
"""To a multiple of as many numbers a thread's working memory is rounded up, so that two threads share no page."""


@dataclass(frozen=True, slots=True)
class Work:
    """Working memory of ``size`` numbers for each thread, for the parameter ``place``, where calls have None.

    ``memory``: returns memory for as many numbers, with arbitrary values.
    """

    place: int
    size: int
    memory: Callable[[int], Memory]

    def given(self, call: tuple[Any, ...], memory: Memory) -> tuple[Any, ...]:
        """Return a call with this memory."""
        return *call[: self.place], memory.part(0, self.size), *call[self.place + 1 :]


def run(kernel: Kernel, calls: Sequence[tuple[Any, ...]], threads: int, work: Work | None = None) -> int:
    """Call a kernel with each of ``calls``, on several threads if ``threads`` is above 1.

    A thread takes the next call when it has finished one. Returns the sum of the results, modulo 2**64.

    Raises TypeError for wrong arguments, UnsupportedError if the kernel cannot be compiled or fails.
    """
    if min(threads, len(calls)) < 2 or not team.is_ready():
        return sum(run_all([partial(_one, kernel, call, work) for call in calls], threads)) % 2**64
    if work is None:
        return team.run(kernel, calls, default())
    threads, size = default(), -(-work.size // _PAGE) * _PAGE
    memory = work.memory(threads * size)
    return team.run(kernel, [work.given(call, memory) for call in calls], threads, (work.place, memory))


def _one(kernel: Kernel, call: tuple[Any, ...], work: Work | None) -> int:
    return kernel(*(call if work is None else work.given(call, work.memory(work.size))))
