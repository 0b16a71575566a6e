"""Run calls of a kernel side by side on the OpenMP threads of torch's own operators.

After an operator, those threads wait for the next one by spinning, for some milliseconds. Threads of ours would compete
with them for the same processors: a product of 128 inputs then took twice as long. A team takes no time to start while
it spins, so it also serves products that are too short to wake a thread for (decision 0084).

Only libgomp's entry is used, on Linux. A process that forked cannot use it: the threads did not come along.

All threads of a team must arrive before it is done. Where other work takes the processors, one of them may wait for its
turn for many times as long as a product takes. So a team that waited in vain rests for a while.
"""

import ctypes
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, reduce
from pathlib import Path
from typing import Any, ClassVar, Final

from lottapack.forking import was_forked
from lottapack.rng.kernels.kernel import DONE, Kernel, Memory, failed
from lottapack.rng.threads import is_inside

_NEXT, _THREAD, _FAILED, _SUM, _COUNT, _KERNEL, _ARGUMENTS, _STRIDE, _CLOCK, _TIMES, _PLACE, _MEMORY, _SIZE = range(13)
"""What all threads of a run share: the next call, the next thread's number, whether a call failed, and the sum of the
results; then the number of calls, the addresses of the kernel and of the arguments, the bytes of a call's arguments,
the addresses of C's clock_gettime() and of the times at which threads find no more calls, where in a call's arguments
the address of working memory belongs, and that of the first thread's memory and its bytes."""

_PARALLEL: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
"""libgomp's entry: a function, its argument, the number of threads, flags."""
_SPARE: Final = bytes(8)
"""Takes the address of working memory where a kernel has none."""

_MONOTONIC: Final = 1
"""The number of the clock of time.perf_counter()."""
_WAITED: Final = 1e-3
"""A team waited in vain if it waited for more seconds after a thread found no more calls, and for half of its time."""
_SHORTEST: Final = 0.01
"""The seconds for which it then rests. A rest is twice as long as the one before it if the team worked for less time
than it had rested, up to the longest."""
_LONGEST: Final = 0.5

_rested = _rests_until = 0.0


def available() -> bool:
    """Return whether torch's threads can run kernels now: not for a task of run_all(), which stays in its thread."""
    return not was_forked() and "torch" in sys.modules and not is_inside() and _parallel() is not None


def is_ready() -> bool:
    """Return whether torch's threads are available() and do not rest."""
    return available() and time.perf_counter() >= _rests_until


def run(kernel: Kernel, calls: Sequence[Sequence[Any]], threads: int, space: tuple[int, Memory] | None = None) -> int:
    """Call a kernel with each of ``calls`` on this many threads, if available().

    ``threads`` should be default(), torch's number: libgomp ends those that a smaller team leaves out. Each thread
    takes the next call when it has finished one. ``space``: a parameter, and memory that is divided into equal parts,
    one a thread. Each call must give a part of at most that size there, and gets its thread's.

    Returns the sum of the results, modulo 2**64.

    Raises TypeError for wrong arguments, before the first call; UnsupportedError if a call fails.
    """
    prepared = [kernel.prepared(*call) for call in calls]
    function, packed = prepared[0]
    if any(other is not function for other, _ in prepared):
        raise TypeError(f"{kernel.name}: all calls must be of one form")
    arguments = ctypes.create_string_buffer(b"".join(each + _SPARE for _, each in prepared))
    own = (len(packed), 0, 0)
    if space is not None:
        place, memory = space
        own = (8 * kernel.offset(place), memory.address, memory.size // threads * memory.dtype.itemsize)
    given = len(calls), kernel.address(function), ctypes.addressof(arguments), len(packed) + len(_SPARE)
    times = (_Time * threads)()
    shared = (ctypes.c_uint64 * 13)(0, 0, 0, 0, *given, _clock(), ctypes.addressof(times), *own)
    parallel, begin = _parallel(), time.perf_counter()
    assert parallel is not None
    parallel(_entry(), ctypes.addressof(shared), threads, 0)
    _rest(begin, time.perf_counter(), min(found.seconds for found in times[: shared[_THREAD]]))
    if shared[_FAILED]:
        raise failed(kernel.name)
    return shared[_SUM]


class _Time(ctypes.Structure):
    """C's struct timespec."""

    _fields_: ClassVar = [("whole", ctypes.c_int64), ("billionths", ctypes.c_int64)]

    @property
    def seconds(self) -> float:
        return float(self.whole + self.billionths / 1e9)


def _rest(begin: float, end: float, first: float) -> None:
    """Let the team rest if it ran from ``begin`` to ``end`` and a thread found no more calls as early as ``first``."""
    global _rested, _rests_until
    if end - first > max(_WAITED, (end - begin) / 2):
        soon = begin - _rests_until < _rested
        _rested = min(2 * _rested, _LONGEST) if soon else _SHORTEST
        _rests_until = end + _rested


@cache
def _clock() -> int:
    return ctypes.cast(ctypes.CDLL(None).clock_gettime, ctypes.c_void_p).value or 0


@cache
def _parallel() -> Callable[..., None] | None:
    """Return libgomp's function that runs another one on all threads, from the library that torch uses, or None."""
    if sys.platform != "linux":
        return None
    import torch

    if not torch.backends.openmp.is_available():  # type: ignore[no-untyped-call]
        return None
    # As the system's loader looked it up for torch: first among what all libraries share.
    for library in (None, str(Path(torch.__file__).with_name("lib") / "libtorch_cpu.so")):
        with suppress(OSError, AttributeError):
            return _PARALLEL(("GOMP_parallel", ctypes.CDLL(library)))
    return None


@cache
def _entry() -> int:
    """Return the address of the function that each thread runs. It takes the address of the fields."""
    import llvmlite.binding as llvm

    from lottapack.rng.kernels import machine

    unit = llvm.parse_assembly(_source(machine.processor().triple))
    unit.verify()
    return machine.load(bytes(machine.target_machine().emit_object(unit)), "team")


def _source(triple: str) -> str:
    from llvmlite import ir

    word, address = ir.IntType(64), ir.IntType(8).as_pointer()
    module = ir.Module()
    module.triple = triple
    team = ir.Function(module, ir.FunctionType(ir.VoidType(), [address]), "team")
    b = ir.IRBuilder(team.append_basic_block("begin"))
    fields = b.bitcast(team.args[0], word.as_pointer())
    places = [b.gep(fields, [word(n)]) for n in range(13)]
    kernel = ir.FunctionType(ir.IntType(32), [address] * 3).as_pointer()
    result, exception = b.alloca(word), b.alloca(word)
    thread = b.atomic_rmw("add", places[_THREAD], word(1), "monotonic")
    own = b.add(b.load(places[_MEMORY]), b.mul(thread, b.load(places[_SIZE])))
    loop, body, end = (team.append_basic_block(name) for name in ("loop", "body", "end"))
    b.branch(loop)
    b.position_at_end(loop)
    turn = b.atomic_rmw("add", places[_NEXT], word(1), "monotonic")
    b.cbranch(b.icmp_unsigned("<", turn, b.load(places[_COUNT])), body, end)
    b.position_at_end(body)
    given = b.add(b.load(places[_ARGUMENTS]), b.mul(turn, b.load(places[_STRIDE])))
    b.store(own, b.inttoptr(b.add(given, b.load(places[_PLACE])), word.as_pointer()))
    function = b.inttoptr(b.load(places[_KERNEL]), kernel)
    b.store(word(0), result)  # a kernel without a result leaves it alone
    code = b.call(function, [*(b.bitcast(one, address) for one in (result, exception)), b.inttoptr(given, address)])
    done = reduce(b.or_, [b.icmp_signed("==", code, code.type(known)) for known in DONE])
    b.atomic_rmw("or", places[_FAILED], b.zext(b.not_(done), word), "monotonic")
    b.atomic_rmw("add", places[_SUM], b.load(result), "monotonic")
    b.branch(loop)
    b.position_at_end(end)
    clock = b.inttoptr(b.load(places[_CLOCK]), ir.FunctionType(ir.IntType(32), [ir.IntType(32), address]).as_pointer())
    found = b.add(b.load(places[_TIMES]), b.mul(thread, word(ctypes.sizeof(_Time))))
    b.call(clock, [ir.IntType(32)(_MONOTONIC), b.inttoptr(found, address)])
    b.ret_void()
    return str(module)
