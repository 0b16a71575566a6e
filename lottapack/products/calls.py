"""Run the calls of a product's kernel side by side: on the threads of torch's operators, or on lottapack's own."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from lottapack.products.scratch import working
from lottapack.rng.kernels import team
from lottapack.rng.kernels.kernel import Kernel, Memory
from lottapack.rng.threads import default, run_all

_TEAM: Final = 1 << 20
_POOL: Final = 1 << 24
"""The least work of a product, in multiplications, that is worth a thread: a team of spinning threads starts at once,
and another thread must be woken."""
_LINE: Final = 1024
"""The 32-bit numbers to which a thread's working memory is rounded up, so that two threads share no page."""


def worthwhile(threads: int, work: int) -> int:
    """Return how many threads, at most ``threads``, this much work is worth."""
    least = _TEAM if team.available() else _POOL
    return max(1, min(threads, work // least))


def run(kernel: Kernel, calls: Sequence[tuple[Any, ...]], threads: int, work: tuple[int, int] | None = None) -> None:
    """Call a kernel with each of ``calls`` on this many threads at most; a thread takes the next call when it is ready.

    ``work``: the parameter for working memory, of which every thread gets its own, and its 32-bit numbers. The calls
    give None there.

    Raises TypeError for wrong arguments, UnsupportedError if the kernel cannot be compiled or fails.
    """
    if min(threads, len(calls)) < 2 or not team.available():
        run_all([partial(_one, kernel, call, work) for call in calls], threads)
        return
    threads = default()  # all of torch's take part, because fewer would end the others
    if work is None:
        team.run(kernel, calls, threads)
        return
    place, size = work[0], -(-work[1] // _LINE) * _LINE
    memory = working(threads * size)
    team.run(kernel, [_with(call, place, memory.part(0, size)) for call in calls], threads, (place, memory))


def _one(kernel: Kernel, call: tuple[Any, ...], work: tuple[int, int] | None) -> None:
    kernel(*(call if work is None else _with(call, work[0], working(work[1]))))


def _with(call: tuple[Any, ...], place: int, memory: Memory) -> tuple[Any, ...]:
    return *call[:place], memory, *call[place + 1 :]
