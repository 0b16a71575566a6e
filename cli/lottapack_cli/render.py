"""All output: tables, JSON or nothing on standard output; warnings and errors on standard error."""

import dataclasses
import io
import json
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import PurePath
from typing import Any, TextIO

from lottapack.display import clean as clean
from lottapack.errors import OutputError
from lottapack_cli.tables import Column, Facts, Heading, Prose, Table, wrapped

Part = str | Table | Facts | Heading
"""The parts of a view."""

NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""The texts for numbers that JSON does not support."""
_JOINT = "\ue000"
_WHOLE = re.compile(
    r"""`[^`]*`|"[^"]*"|(?<!\w)'[^']*'(?!\w)|\blottapack(?: [a-z]+\b)?(?: -\S+| [^ a-z]\S*| \S*[./]\S*\w)*"""
)
"""Quoted text, and commands: ``lottapack``, a word, and then options and names that do not begin like a word."""
_logger = logging.getLogger("lottapack")
_USUAL, _WIDE = 80, 10_000
"""Columns of a terminal of unknown width, and no limit: lines in a pipe or file are not wrapped."""


class Output:
    """Prints the result of a command. ``json``: as one object; ``quiet``: only what was explicitly requested.

    ``verbose``: the library's log goes to standard error; from 2 on, with details.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False, verbose: int = 0) -> None:
        self.json = json
        self.human = not (json or quiet)
        self._begun = False
        self._warnings: list[str] = []
        listen(_Said() if verbose else None, logging.DEBUG if verbose > 1 else logging.INFO)
        if not self.human:  # before huggingface_hub is imported, which would print its retries
            os.environ.setdefault("HF_HUB_VERBOSITY", "error")

    def result(self, record: Any, view: Callable[[], Iterable[Part]], *, ok: bool = True) -> None:
        """Show a command's result: ``record`` (a dataclass or mapping) as JSON, or the parts of ``view()``.

        ``ok``: whether the checks of the command passed.
        """
        if self.json:
            self._object({"ok": ok, **plain(record)})
        elif self.human:
            self.show(*view())

    def _object(self, fields: Mapping[str, Any]) -> None:
        indent = 2 if is_terminal(sys.stdout) else None
        self.text(json.dumps({**fields, "warnings": self._warnings}, indent=indent, allow_nan=False))

    def show(self, *parts: Part) -> None:
        """Print text and tables in the human mode; do nothing in the other modes."""
        if not self.human:
            return
        from rich.console import Console

        width, page = _width(sys.stdout), io.StringIO()
        console = Console(file=page, force_terminal=is_terminal(sys.stdout), width=_WIDE, highlight=False)
        for part in parts:
            shown = Prose(clean(part)) if isinstance(part, str) else part
            for line in shown.lines(width):
                console.print(line, no_wrap=True, overflow="ignore", crop=False)
        lines = "\n".join(line.rstrip(" ") for line in page.getvalue().split("\n"))
        _write(sys.stdout, lines if self._begun else lines.lstrip("\n"))
        self._begun = True

    def text(self, text: str) -> None:
        """Print text that was explicitly requested: the JSON object or Markdown."""
        _write(sys.stdout, text + "\n")

    @contextmanager
    def telling_what_is_left_out(self) -> Iterator[None]:
        """Print the library's warnings of what is left out, at the end, and no others."""
        from lottapack.errors import LeftOutWarning

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", LeftOutWarning)
            yield
        for warning in caught:
            self.warn(str(warning.message))

    def warn(self, message: str) -> None:
        """Print a warning on standard error, or keep it for the JSON object."""
        if self.json:
            self._warnings.append(message)
        else:
            _tell(f"warning: {message}")

    def error(self, record: Mapping[str, Any], text: str) -> None:
        """Report a failure on standard error and as the JSON object.

        If neither can be written, the exit code remains.
        """
        self.complain(text)
        if self.json:
            with suppress(OutputError):
                self._object({"ok": False, "error": plain(record)})

    def complain(self, text: str) -> None:
        """Print an error on standard error."""
        with suppress(OutputError):
            _tell(f"error: {text}")


def _tell(text: str) -> None:
    """Print text on standard error, in a terminal in lines of its width."""
    lines = clean(text).split("\n")
    if is_terminal(sys.stderr):
        width = _width(sys.stderr)
        # Importing rich takes long, and most lines fit.
        lines = [part for line in lines for part in ([line] if len(line) * 2 <= width else _in_lines(line, width))]
    _write(sys.stderr, "\n".join(lines) + "\n")


def _in_lines(line: str, width: int) -> list[str]:
    """Break a line between words, but not inside quoted text or a command, which a reader may copy."""
    if _JOINT in line:
        return wrapped(line, width)
    whole = _WHOLE.sub(lambda unit: unit[0].replace(" ", _JOINT), line)
    return [part.replace(_JOINT, " ") for part in wrapped(whole, width)]


class _Said(logging.Handler):
    """Prints the library's log on standard error, one line a message."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        with suppress(OutputError):
            _write(sys.stderr, f"{record.levelname.lower()}: {clean(record.getMessage())}\n")


def listen(handler: logging.Handler | None, level: int) -> None:
    """Attach a handler to the library's log, in place of the previous one."""
    for old in [old for old in _logger.handlers if isinstance(old, _Said)]:
        _logger.removeHandler(old)
    if handler is not None:
        _logger.addHandler(handler)
    _logger.setLevel(level if handler is not None else logging.NOTSET)


def plain(value: Any) -> Any:
    """Return a value as JSON: dataclasses as objects, paths and numbers that are not finite as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return NOT_FINITE[repr(value)]
    return value


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, strong: Callable[[int], bool] | None = None
) -> Table:
    """Return a table without rules; see Column.of() for the titles. ``strong(i)``: row i is bold.

    A cell is one line: with another one, a name from a registry could look like a row of its own.
    """
    cells = [[clean(cell).replace("\n", "\\n") for cell in row] for row in rows]
    bold = frozenset(number for number in range(len(cells)) if strong and strong(number))
    return Table([Column.of(column) for column in columns], cells, bold)


def facts(rows: Iterable[tuple[str, str]]) -> Facts:
    """Return names and values, one pair a line."""
    return Facts([(name, clean(value)) for name, value in rows])


def heading(text: str, note: str = "") -> Heading:
    """Return a bold line above a table, with a dim remark."""
    return Heading(clean(text), clean(note))


def duration(seconds: float) -> str:
    """Return a readable time: ``12 ms``, ``3.6 s``, ``2 min 5 s``, ``1 h 4 min``."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def when(time: str | None) -> str:
    """Return a time in UTC as registries write it, to the second: ``2026-11-30 00:01:09``."""
    return time[:19].replace("T", " ") if time else ""


def _width(stream: TextIO | None) -> int:
    """Return the columns to fill: COLUMNS if set, else the terminal's width."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    if not is_terminal(stream):
        return _WIDE
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL  # type: ignore[union-attr]
    except OSError:
        return _USUAL


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a standard stream is a terminal; a closed one (``>&-``) is None."""
    return stream is not None and stream.isatty()


def _write(stream: TextIO | None, text: str) -> None:
    """Write and flush. If the reader closed the pipe (``| head -1``), the output ends, not the command."""
    if stream is None:
        return
    try:
        if stream.encoding and stream.encoding.lower().replace("-", "") != "utf8":  # what the encoding lacks is escaped
            text = text.encode(stream.encoding, "backslashreplace").decode(stream.encoding)
        stream.write(text)
        stream.flush()
    except OSError as fault:
        discard(stream)
        if not isinstance(fault, BrokenPipeError):
            raise OutputError(f"cannot write to {stream.name}: {fault.strerror or fault}") from fault


def discard(stream: TextIO | None) -> None:
    """Discard buffered output, which would fail again when the interpreter exits."""
    with suppress(OSError):  # a stream without a descriptor keeps nothing back
        if stream is None:
            return
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
