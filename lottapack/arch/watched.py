"""Run work in its own thread, and stop it if it takes too much time or memory (decision 0034).

Libraries turn numbers of a configuration into loops and lists. Python can only stop such a loop by an exception that is
raised in its thread at its next bytecode. It must not hit other code, so the work has a thread of its own that ends
with it, and the thread that wants the result waits and watches.
"""

import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from contextvars import Context, copy_context
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from lottapack.arch.sealed import importing, unsealed
from lottapack.errors import LimitError

T = TypeVar("T")

_EVERY: Final = 0.02
"""The seconds between two checks."""
_AGAIN: Final = 0.1
"""The seconds after which the work is stopped once more, because something may have caught the first exception."""
_GRACE: Final = 2.0
"""The seconds to wait for the thread after Ctrl-C."""
_WALL: Final = 4.0
"""If a thread's processor time cannot be read, this many seconds of wall time count as one."""
_SHARE: Final = 0.5
_BUSY: Final = 0.1
"""All threads make a process grow; the growth counts as this one's from this share of the processor time on."""


class Stopped(BaseException):
    """Raised inside the work to end it. Not an Exception, because libraries catch those."""


class Limits(Protocol):
    """The limits of the work, read while it runs, because it can do something that raises them."""

    def seconds(self) -> float:
        """Return the processor time that the thread may take, without imports and the garbage collector."""

    def growth(self) -> int:
        """Return the bytes of anonymous memory by which the process may grow."""


def run_watched(work: Callable[[], T], label: str, limits: Limits) -> T:
    """Run ``work`` in another thread with the caller's context, and return its result.

    Raises LimitError if it takes more than the limits, and whatever the work raises.
    """
    task = _Task(work)
    gc.callbacks.append(task.collects)
    try:
        excess = _end_of(task, limits)
    finally:
        gc.callbacks.remove(task.collects)
        # The error's traceback leads to the task. Without this and ``del error``, the two would form a reference cycle,
        # and all that the work has made would stay until the garbage collector runs.
        error, task.error = task.error, None
    if excess:
        del error
        raise LimitError(
            f"{label}: building it from its configuration {excess}",
            hint="Do not use this pack: its configuration needs more than its table declares. No argument raises this "
            "limit. If you trust the configuration, build the model with its own library.",
        )
    if error is not None:
        try:
            raise error
        finally:
            del error
    return task.value[0]


def _end_of(task: "_Task[Any]", limits: Limits) -> str:
    """Start a task, wait for its end, and return what it exceeded, or an empty text."""
    with unsealed():
        task.thread.start()
    try:
        excess = task.watch(limits)
    except BaseException:
        task.stop()  # Ctrl-C: the work is no longer needed
        task.end_thread(_GRACE)
        raise
    task.end_thread()
    return excess


class _Task(Generic[T]):
    """The work, its thread and its result.

    The thread does not end before ``leave`` is released, after which nothing is raised in it. So its id still
    belongs to it whenever something is raised.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self.work = work
        self.error: BaseException | None = None
        self.value: list[T] = []
        self.clock: int | None = None
        self.collected = 0.0
        self.collecting: float | None = None
        self.over, self.leave = threading.Lock(), threading.Lock()
        self.over.acquire()
        self.leave.acquire()
        self.thread = threading.Thread(target=self.run, args=[copy_context()], name="lottapack-build", daemon=True)

    def run(self, context: Context) -> None:
        # The exception of a stop may arrive anywhere here, also at the end.
        try:
            try:
                self.begin(context)
            finally:
                self.end()
        except Stopped:
            self.end()

    def begin(self, context: Context) -> None:
        try:
            if hasattr(time, "pthread_getcpuclockid"):
                self.clock = time.pthread_getcpuclockid(threading.get_ident())
            self.value.append(context.run(self.work))
        except BaseException as fault:  # noqa: BLE001
            self.error = fault

    def end(self) -> None:
        while True:
            try:
                if self.over.locked():
                    self.over.release()
                with self.leave:
                    return
            except Stopped:
                continue

    def collects(self, phase: str, _: object) -> None:
        """Add up what the garbage collector takes in the thread: its time depends on what else the process holds."""
        if threading.get_ident() != self.thread.ident:
            return
        now = time.thread_time() if hasattr(time, "pthread_getcpuclockid") else time.monotonic() / _WALL
        if phase == "start":
            self.collecting = now
        elif self.collecting is not None:
            self.collected += now - self.collecting
            self.collecting = None

    def watch(self, limits: Limits) -> str:
        """Wait for the work; return what it exceeded, or an empty text."""
        meter, excess, since = _Meter(self), "", 0.0
        while not self.over.acquire(timeout=_EVERY):
            if not excess:
                excess = meter.excess(limits)
            if excess and time.monotonic() - since > _AGAIN:
                since = time.monotonic()
                self.stop()
        return excess

    def end_thread(self, timeout: float | None = None) -> None:
        """Let the thread end, and wait for it: PyTorch aborts a process that exits while a thread runs its code."""
        self.leave.release()
        self.thread.join(timeout)

    def stop(self) -> None:
        """Raise Stopped in the thread, which belongs to this task and cannot end yet."""
        number = ctypes.c_ulong(self.thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(Stopped))


class _Meter:
    """Measures what a task has taken since it began."""

    def __init__(self, task: "_Task[Any]") -> None:
        self.task = task
        self.begin: float | None = None
        self.last = self.imports = 0.0
        self.memory, self.process = anonymous_memory(), time.process_time()

    def now(self) -> float:
        clock = self.task.clock
        return time.monotonic() / _WALL if clock is None else time.clock_gettime(clock)

    def excess(self, limits: Limits) -> str:
        now, collecting = self.now(), self.task.collecting
        collected = self.task.collected + (0.0 if collecting is None else now - collecting)
        if self.begin is None:
            self.begin = self.last = now if self.task.clock is None else 0.0
        if importing(sys._current_frames().get(self.task.thread.ident or 0)):
            self.imports += now - self.last
        self.last = now
        taken = now - self.begin
        allowed = limits.seconds()
        if taken - self.imports - collected > allowed:
            return f"takes more than {allowed:.3g} seconds"
        grown, most = anonymous_memory() - self.memory, limits.growth()
        if grown > most and taken > _BUSY and taken >= _SHARE * (time.process_time() - self.process):
            return f"takes more than {most / 1e6:,.0f} MB of memory"
        return ""


def anonymous_memory() -> int:
    """Return the bytes of this process that belong to no file, or 0 if the system does not report them."""
    try:
        _, resident, shared = Path("/proc/self/statm").read_bytes().split()[:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
