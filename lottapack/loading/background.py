"""Tasks that other threads begin while the caller works, and that the caller completes with them."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """Tasks that are taken in order. Each thread that calls run() takes the next one when it has finished one."""

    def __init__(self, tasks: Iterable[Callable[[], T]]) -> None:
        self._waiting = deque((Future[T](), task) for task in tasks)
        self._futures = deque(future for future, _ in self._waiting)

    def run(self) -> None:
        """Run tasks until none is waiting."""
        _run(self._waiting)

    def stop(self) -> None:
        """Let no more tasks begin, and forget the results."""
        self._waiting.clear()
        self._futures.clear()

    def results(self) -> list[T]:
        """Run tasks until none is waiting, and return all results in order. Raises the first error in that order.

        It keeps no errors, because their tracebacks hold what the callers hold, and this object.
        """
        try:
            self.run()
            results = []
            while self._futures:
                results.append(self._futures.popleft().result())
            return results
        finally:
            self.stop()


def _run(waiting: deque[tuple[Future[T], Callable[[], T]]]) -> None:
    while True:
        try:
            future, task = waiting.popleft()
        except IndexError:
            return
        try:
            future.set_result(task())
        except BaseException as fault:
            future.set_exception(fault)
            if not isinstance(fault, Exception):
                raise
        finally:
            del future, task  # an error's traceback holds this frame, and would make a cycle with its future
