"""Work that exceeds its limits is stopped; other work is not."""

import contextlib
import contextvars
import ctypes
import gc
import threading
import time
import weakref
from dataclasses import dataclass

import pytest

from lottapack.arch import watched
from lottapack.arch.watched import Stopped, run_watched
from lottapack.errors import LimitError

# Stopped may arrive in a callback of the garbage collector, where Python drops it; it is sent again.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@dataclass
class Fixed:
    """Limits that do not change."""

    most_seconds: float = 60.0
    most_growth: int = 10**12

    def seconds(self) -> float:
        return self.most_seconds

    def growth(self) -> int:
        return self.most_growth


def count(seconds: float = 60.0) -> int:
    """A loop of Python."""
    end, turns = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        turns += 1
    return turns


def test_results_errors_and_context_pass():
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(3)
    assert run_watched(variable.get, "it", Fixed()) == 3
    with pytest.raises(KeyError, match="a"):
        run_watched(lambda: {}["a"], "it", Fixed())
    assert run_watched(lambda: run_watched(threading.get_ident, "in", Fixed()), "out", Fixed()) != threading.get_ident()


class Model:
    """What the work made before it was stopped: perhaps a gigabyte."""


@pytest.mark.parametrize("ending", ["error", "time"])
def test_what_failed_work_has_made_goes_with_its_error(ending):
    made = []

    def work() -> None:
        model = Model()
        made.append(weakref.ref(model))
        if ending == "error":
            raise KeyError("a")
        count()

    gc.collect()
    gc.disable()
    try:
        with pytest.raises((KeyError, LimitError)) as caught:
            run_watched(work, "it", Fixed(0.2))
        del caught
        assert made[0]() is None, "only a search for cycles would free it"
    finally:
        gc.enable()


def test_a_loop_ends():
    begin = time.monotonic()
    with pytest.raises(LimitError, match=r"it: building it from its configuration takes more than 0\.2 seconds"):
        run_watched(count, "it", Fixed(0.2))
    assert time.monotonic() - begin < 120


def test_the_garbage_collector_does_not_count():
    """It looks at all objects of the process: with many, a small model would be refused."""
    held = [[] for _ in range(200_000)]

    def collect() -> int:
        begin = time.thread_time()
        while time.thread_time() - begin < 1:
            gc.collect()
        return len(held)

    assert run_watched(collect, "it", Fixed(0.2)) == 200_000


def test_memory_that_is_taken_in_a_loop():
    def fill() -> None:
        held = []
        while True:
            held.append(bytes(1000))

    with pytest.raises(LimitError, match="takes more than 150 MB of memory"):
        run_watched(fill, "it", Fixed(most_growth=150_000_000))


def test_what_is_caught_is_raised_again():
    caught = []

    def stubborn() -> None:
        for _ in range(3):
            try:
                count()
            except BaseException as fault:  # noqa: BLE001
                caught.append(type(fault))
        count()

    with pytest.raises(LimitError):
        run_watched(stubborn, "it", Fixed(0.1))
    assert caught == [Stopped] * 3
    # Work that continues anyway is no longer trusted.
    with pytest.raises(LimitError):
        run_watched(lambda: bool(suppressed()), "it", Fixed(0.1))


def suppressed() -> str:
    try:
        count()
    except Stopped:
        return "half a model"
    return "a whole one"


def test_other_threads_are_left_alone():
    """Many that are stopped at the moment at which they end, beside one that must not be."""
    stop, faults = threading.Event(), []

    def other() -> None:
        try:
            while not stop.is_set():
                count(0.01)
        except BaseException as fault:  # noqa: BLE001
            faults.append(fault)

    thread = threading.Thread(target=other)
    thread.start()
    outcomes = set()
    for number in range(60):
        try:
            outcomes.add(run_watched(lambda: bool(count(0.02 + number % 5 / 1000)), "it", Fixed(0.015)))  # noqa: B023
        except LimitError:
            outcomes.add("stopped")
    stop.set()
    thread.join()
    assert faults == []
    assert outcomes <= {True, "stopped"}


def test_a_stop_at_any_bytecode_of_the_end_is_harmless(monkeypatch):
    """Stopped is raised while the task is ending, again and again, and the caller gets its answer."""
    for delay in range(40):
        task = watched._Task(lambda: 1)
        task.thread.start()
        number = ctypes.c_ulong(task.thread.ident or 0)
        for _ in range(delay):
            pass
        ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(Stopped))
        assert task.over.acquire(timeout=10)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(Stopped))
        task.leave.release()
        task.thread.join(10)
        assert not task.thread.is_alive()


class SlowToGo:
    """Takes its time to be destroyed, as tensors do."""

    gone = False

    def __del__(self) -> None:
        time.sleep(0.3)
        SlowToGo.gone = True


@pytest.mark.parametrize("ending", ["result", "error", "time"])
def test_the_thread_has_ended_with_all_it_holds(ending):
    """A process that exits while a thread destroys a tensor is aborted by PyTorch."""
    held, SlowToGo.gone = contextvars.ContextVar[SlowToGo]("held"), False

    def work() -> None:
        held.set(SlowToGo())  # in the thread's context, which goes with the thread
        if ending == "error":
            raise KeyError
        if ending == "time":
            count()

    with pytest.raises((KeyError, LimitError)) if ending != "result" else contextlib.nullcontext():
        run_watched(work, "it", Fixed(0.2))
    assert SlowToGo.gone


def test_an_interrupt_of_the_caller_ends_the_work():
    ended = threading.Event()

    def work() -> None:
        try:
            count()
        finally:
            ended.set()

    class Interrupting(Fixed):
        def seconds(self) -> float:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_watched(work, "it", Interrupting())
    assert ended.is_set()


def test_imports_do_not_count(tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text(
        "import time\nend = time.thread_time() + 0.6\nwhile time.thread_time() < end: pass\n", "utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def load() -> str:
        import slow_to_import  # type: ignore[import-not-found]

        return str(slow_to_import.__name__)

    assert run_watched(load, "it", Fixed(0.3)) == "slow_to_import"
