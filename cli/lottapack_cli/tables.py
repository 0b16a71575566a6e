"""Tables that fit a width without breaking words: columns are left out, or moved below the first one.

::

    name              shape     scale      name                  name
    layers.0-9.weight 64 x 64   0.125        shape    scale      layers.0-9.weight
                                           layers.0-9.weight       shape  64 x 64
                                             64 x 64  0.125        scale  0.125
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

_GAP, _INDENT = "  ", "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A title and how its cells are aligned. ``spare``: the column may be left out if the width is too small."""

    title: str
    right: bool = False
    spare: bool = False

    @classmethod
    def of(cls, text: str) -> "Column":
        """Parse a title: ``>title`` is aligned to the right, ``?title`` may be left out, ``?>title`` is both."""
        spare = text.startswith("?")
        text = text.removeprefix("?")
        return cls(text.removeprefix(">"), text.startswith(">"), spare)


@dataclass(frozen=True, slots=True)
class Table:
    """Cells by row; ``strong``: the indices of bold rows. The first column names the subject of a row."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    strong: frozenset[int] = frozenset()

    def lines(self, width: int) -> "Iterator[Text]":
        """Yield the table in lines of that width. Only a single word that is wider makes a line wider."""
        choices, widths = list(self._choices()), self._widths()
        for chosen in choices:
            if _total(widths, chosen) <= width:
                yield from self._grid(chosen, widths)
                return
        for chosen in choices:
            if chosen[1:] and _total(widths, chosen[1:]) + len(_INDENT) <= width:
                yield from self._stacked(chosen[1:], widths, width)
                return
        yield from self._records(width)

    def _choices(self) -> Iterator[list[int]]:
        """Yield the indices of the columns to show: all of them, then without the last spare one, and so on."""
        shown = list(range(len(self.columns)))
        yield list(shown)
        for index in reversed(range(1, len(self.columns))):
            if self.columns[index].spare:
                shown.remove(index)
                yield list(shown)

    def _widths(self) -> list[int]:
        from rich.cells import cell_len

        return [
            max(cell_len(column.title), *(cell_len(row[index]) for row in self.rows), 0)
            for index, column in enumerate(self.columns)
        ]

    def _grid(self, chosen: Sequence[int], widths: Sequence[int], indent: str = "") -> "Iterator[Text]":
        from rich.cells import cell_len
        from rich.text import Text

        def line(cells: Sequence[str], style: str) -> Text:
            padded = []
            for index in chosen:
                space = " " * (widths[index] - cell_len(cells[index]))
                padded.append(space + cells[index] if self.columns[index].right else cells[index] + space)
            return Text((indent + _GAP.join(padded)).rstrip(), style=style)

        titles = [column.title for column in self.columns]
        if any(titles):
            yield line(titles, "bold")
        for number, row in enumerate(self.rows):
            yield line(row, self._style(number))

    def _stacked(self, rest: Sequence[int], widths: Sequence[int], width: int) -> "Iterator[Text]":
        """Yield the first column's cells on their own lines, and the others below."""
        below = self._grid(rest, widths, _INDENT)
        if any(column.title for column in self.columns):
            yield from self._first(self.columns[0].title, "bold", width)
            yield next(below)
        for number, (row, line) in enumerate(zip(self.rows, below, strict=True)):
            yield from self._first(row[0], self._style(number), width)
            if line.plain.strip():
                yield line

    def _records(self, width: int) -> "Iterator[Text]":
        """Yield every cell that is not empty on its own line, after its title."""
        from rich.cells import cell_len, set_cell_size
        from rich.text import Text

        names = max((cell_len(column.title) for column in self.columns[1:]), default=0)
        for number, row in enumerate(self.rows):
            yield from self._first(row[0], self._style(number), width)
            for column, cell in zip(self.columns[1:], row[1:], strict=True):
                if cell:
                    begin = _INDENT + (set_cell_size(column.title, names) + _GAP if names else "")
                    for line in wrapped(cell, width - cell_len(begin)):
                        yield Text(begin + line, style=self._style(number))
                        begin = " " * cell_len(begin)

    def _first(self, cell: str, style: str, width: int) -> "Iterator[Text]":
        from rich.text import Text

        yield from (Text(line, style=style) for line in wrapped(cell, width))

    def _style(self, row: int) -> str:
        return "bold" if row in self.strong else ""


def _total(widths: Sequence[int], chosen: Sequence[int]) -> int:
    """Return the width of a table's chosen columns."""
    return sum(widths[index] for index in chosen) + len(_GAP) * (len(chosen) - 1)


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values; long values continue on the next line."""

    rows: Sequence[tuple[str, str]]

    def lines(self, width: int) -> "Iterator[Text]":
        """Yield the lines, as Table.lines() does."""
        from rich.cells import cell_len
        from rich.text import Text

        names = max(cell_len(name) for name, _ in self.rows)
        for name, value in self.rows:
            begin = name + " " * (names - cell_len(name))
            for line in wrapped(value, width - names - len(_GAP)):
                yield Text.assemble((begin, "dim"), _GAP, line)
                begin = " " * names


@dataclass(frozen=True, slots=True)
class Heading:
    """A bold line with a remark after it, or below it if the width is too small."""

    title: str
    note: str = ""

    def lines(self, width: int) -> "Iterator[Text]":
        """Yield the lines, as Table.lines() does, after an empty line."""
        from rich.cells import cell_len
        from rich.text import Text

        yield Text("")
        together = not self.note or cell_len(self.title + _GAP + self.note) <= width
        *above, title = (Text(line, "bold cyan") for line in wrapped(self.title, width))
        yield from above
        yield Text.assemble(title, (_GAP + self.note, "dim")) if together and self.note else title
        if not together:
            yield from (Text(line, "dim") for line in wrapped(_INDENT + self.note, width))


@dataclass(frozen=True, slots=True)
class Prose:
    """Plain text, in lines."""

    text: str

    def lines(self, width: int) -> "Iterator[Text]":
        """Yield the lines, as Table.lines() does."""
        from rich.text import Text

        # Text, not str: names may contain brackets, which rich would parse as markup.
        yield from map(Text, wrapped(self.text, width))


def wrapped(text: str, width: int) -> list[str]:
    """Return text in lines, broken only between words. Each line keeps the indent of the original line.

    A word that is wider than a line is not moved, since it would not fit on its own line either.
    """
    from rich.cells import cell_len

    lines = []
    for whole in (line.rstrip(" ") for line in text.split("\n")):
        indent = " " * (len(whole) - len(whole.lstrip(" ")))
        line, empty = indent, True
        for space, word in re.findall("( *)([^ ]+)", whole[len(indent) :]):
            fits = cell_len(line + space + word) <= width
            if not (empty or fits) and cell_len(indent + word) <= width:
                lines.append(line)
                line, space = indent, ""
            line, empty = line + space + word, False
        lines.append(line)
    return lines
