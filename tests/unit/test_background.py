"""Tasks that other threads begin and the caller completes."""

import gc
import threading
import weakref
from functools import partial

import pytest

from lottapack.loading.background import Background


def test_results_come_in_order_whoever_runs_the_tasks():
    begun, go_on = threading.Event(), threading.Event()
    ran: dict[int, int] = {}

    def task(number: int) -> int:
        ran[number] = threading.get_ident()
        if not number:
            begun.set()
            go_on.wait()
        if number == 3:
            go_on.set()
        return number

    tasks = Background(partial(task, number) for number in range(5))
    other = threading.Thread(target=tasks.run)
    other.start()
    begun.wait()
    assert tasks.results() == list(range(5))  # the caller ran the fourth, without which the first would not end
    other.join()
    assert ran[0] == other.ident
    assert ran[3] == threading.get_ident()
    assert tasks.results() == []


def test_the_first_error_in_order_is_raised_and_holds_no_cycle():
    class Held:
        pass

    def fail(number: int, held: Held) -> None:
        raise ValueError(number)

    held = Held()
    known = weakref.ref(held)
    tasks = Background([lambda: None, *(partial(fail, number, held) for number in (1, 2))])
    del held
    other = threading.Thread(target=tasks.run)
    other.start()
    other.join()
    gc.disable()
    try:
        first = 0
        try:
            tasks.results()
        except ValueError as fault:  # pytest.raises() would keep it
            first = fault.args[0]
        assert first == 1
        del tasks
        assert known() is None
    finally:
        gc.enable()


def test_no_task_begins_after_a_stop_or_an_interrupt():
    ran = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    tasks = Background([interrupt, lambda: ran.append(1)])
    with pytest.raises(KeyboardInterrupt):
        tasks.results()
    tasks.run()
    assert ran == []
    tasks = Background([lambda: ran.append(1)])
    tasks.stop()
    assert tasks.results() == ran == []
