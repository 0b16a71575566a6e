"""The one sink: tables, JSON or nothing on standard output; warnings and errors on standard error."""

import dataclasses
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TextIO

from lottapack.errors import OutputError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_WIDE = 10_000
"""Columns where no terminal sets a limit: in a pipe or file nothing is wrapped."""
_NAME = 16
"""Columns that a name is given at least before it breaks into lines."""


class Output:
    """Where a command puts its result. ``json``: one object; ``quiet``: nothing but what is asked for."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.human = not (json or quiet)
        self._begun = False
        self._warnings: list[str] = []

    def result(self, record: Any, view: "Callable[[], Iterable[RenderableType]]") -> None:
        """Show a command's result: ``record`` (a dataclass or mapping) as JSON, or what ``view()`` makes of it."""
        if self.json:
            fields = {**plain(record), "warnings": self._warnings}
            indent = 2 if is_terminal(sys.stdout) else None
            self.text(json.dumps(fields, indent=indent, allow_nan=False))
        elif self.human:
            self.show(*view())

    def show(self, *parts: "RenderableType") -> None:
        """Print text and tables for people; nothing in the other modes."""
        if not self.human:
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        terminal = is_terminal(sys.stdout)
        page = io.StringIO()
        unbounded = Console(file=page, force_terminal=terminal or None, width=_WIDE, highlight=False)
        fitted = Console(file=page, force_terminal=terminal, highlight=False) if terminal else unbounded
        for part in parts:
            # Text, not str: names may hold brackets, which rich would read as markup.
            shown = Text(clean(part)) if isinstance(part, str) else part
            # Of a table that does not fit no figure is cut: the terminal breaks its lines.
            broken = isinstance(shown, Table) and unbounded.measure(shown).minimum > fitted.width
            (unbounded if broken else fitted).print(shown)
        lines = "\n".join(line.rstrip(" ") for line in page.getvalue().split("\n"))
        _write(sys.stdout, lines if self._begun else lines.lstrip("\n"))
        self._begun = True

    def text(self, text: str) -> None:
        """Print what was asked for in so many words: the JSON object, Markdown."""
        _write(sys.stdout, text + "\n")

    def warn(self, message: str) -> None:
        """Say something on standard error, or keep it for the JSON object."""
        if self.json:
            self._warnings.append(message)
        else:
            _write(sys.stderr, f"warning: {clean(message)}\n")

    def error(self, record: Mapping[str, Any], text: str) -> None:
        """Report a failure on standard error; if that cannot be written either, the exit code has to tell."""
        with suppress(OutputError):
            _write(sys.stderr, (json.dumps({"error": plain(record)}) if self.json else f"error: {clean(text)}") + "\n")


def plain(value: Any) -> Any:
    """A value as JSON can say it: dataclasses as objects, paths as text, numbers that are not finite as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def clean(text: str) -> str:
    """Text without characters that could steer a terminal: a file decides what its names hold."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, strong: Callable[[int], bool] | None = None
) -> "Table":
    """A table without lines. A column whose title begins with ``>`` is right-aligned; ``strong(i)``: row i is bold."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", title_justify="left")
    titles = [column.removeprefix(">") for column in columns]
    cells = [[clean(cell) for cell in row] for row in rows]
    for index, (title, column) in enumerate(zip(titles, columns, strict=True)):
        widest = max(map(cell_len, [title, *(row[index] for row in cells)]))
        made.add_column(
            title,
            justify="right" if title != column else "left",
            # Only the first column, the name, may break into lines; figures stay whole.
            no_wrap=index > 0,
            min_width=widest if index else min(widest, _NAME),
            overflow="fold",
        )
    for index, row in enumerate(cells):
        made.add_row(*map(Text, row), style="bold" if strong and strong(index) else None)
    return made


def heading(text: str, note: str = "") -> "RenderableType":
    """A bold line above a table, with a dim remark."""
    from rich.text import Text

    return Text.assemble("\n", (clean(text), "bold cyan"), (f"  {clean(note)}" if note else "", "dim"))


def duration(seconds: float) -> str:
    """A time for people: ``12 ms``, ``3.6 s``, ``2 min 5 s``, ``1 h 4 min``."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person sees a standard stream; one that was closed (``>&-``) is None."""
    return stream is not None and stream.isatty()


def _write(stream: TextIO | None, text: str) -> None:
    """Write at once. A reader that went away (``| head -1``) ends the output, not the command."""
    if stream is None:
        return
    try:
        if stream.encoding and stream.encoding.lower().replace("-", "") != "utf8":  # what it cannot say is escaped
            text = text.encode(stream.encoding, "backslashreplace").decode(stream.encoding)
        stream.write(text)
        stream.flush()
    except OSError as fault:
        discard(stream)
        if not isinstance(fault, BrokenPipeError):
            raise OutputError(f"cannot write to {stream.name}: {fault.strerror or fault}") from fault


def discard(stream: TextIO | None) -> None:
    """Send what is still buffered nowhere: it would fail again when the interpreter exits."""
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
