"""A progress bar on standard error, shown only in a terminal."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

from lottapack.limits import size_text
from lottapack_cli.render import clean, is_terminal


class _Note(logging.Handler):
    """Passes on log messages."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on one message."""
        self._show(clean(record.getMessage()))


class Bar:
    """A context manager to call with done and total; it pulses until then. Without a terminal it does nothing.

    ``show``: whether the output mode permits it. ``FORCE_COLOR`` in the environment counts as a terminal.
    """

    def __init__(self, label: str, *, show: bool) -> None:
        self._label = label
        self._show = show and (is_terminal(sys.stderr) or bool(sys.stderr and os.environ.get("FORCE_COLOR")))
        self._stack = ExitStack()

    def __enter__(self) -> "Bar":
        if self._show:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

            columns = ("{task.description}", BarColumn(24), TaskProgressColumn(), TimeElapsedColumn())
            note = TextColumn("{task.fields[note]}", markup=False)
            self._progress = Progress(*columns, note, console=Console(stderr=True), transient=True)
            self._stack.enter_context(self._progress)
            self._task = self._progress.add_task(self._label, total=None, note="")
            self._stack.enter_context(self._noting())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Show the library's log messages, such as a large import, after the bar."""
        logger, handler = logging.getLogger("lottapack"), _Note(self._note)
        before = logger.level
        logger.addHandler(handler)
        logger.setLevel(min(before or logging.INFO, logging.INFO))
        try:
            yield
        finally:
            logger.setLevel(before)
            logger.removeHandler(handler)

    def _note(self, text: str) -> None:
        self._progress.update(self._task, note=text, refresh=True)

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show the progress; ``note`` is printed after the bar."""
        if self._show:
            self._progress.update(self._task, completed=done, total=total, note=note)

    def sized(self, done: int, total: int) -> None:
        """Show the progress in bytes."""
        self(done, total, f"{size_text(done)} of {size_text(total)}")
