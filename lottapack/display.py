"""The display of results: one line in a console, a table in a notebook. Names from files are escaped."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

_WIDTH = 160
ROWS = 50
"""Rows of a table in a notebook; the result itself contains all of them."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The content to display. ``title``: the file or repository; ``line``: the summary; ``more``: values by label."""

    title: object
    line: str
    more: Mapping[str, object] = field(default_factory=dict)
    columns: Sequence[str] = ()
    rows: Iterable[Sequence[object]] = ()


class Displayed:
    """A result with a short ``repr``, and a table for notebooks. Subclasses define its content in ``_facts``."""

    __slots__ = ()

    def _facts(self) -> Facts:
        raise NotImplementedError

    def __repr__(self) -> str:
        facts = self._facts()
        return f"<{type(self).__name__} {_line(facts.title)}: {_line(facts.line)}>"

    def _repr_html_(self) -> str:
        facts = self._facts()
        rows = [*facts.rows]
        parts = [f"<p><b>{_text(facts.title)}</b>: {_text(facts.line)}</p>"]
        if facts.more:
            parts.append(_table((), facts.more.items()))
        if rows:
            parts.append(_table(facts.columns, rows[:ROWS]))
        if len(rows) > ROWS:
            parts.append(f"<p>and {len(rows) - ROWS:,} more</p>")
        return f"<div>{''.join(parts)}</div>"


def clean(value: object) -> str:
    """Escape characters that could control a terminal, since names in a file are not trusted."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(value))


def _line(value: object) -> str:
    """Return text as one short line."""
    text = " ".join(clean(value).split())
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}..."


def _text(value: object) -> str:
    from html import escape  # the command line does not need it

    return escape("" if value is None else f"{value:.4g}" if isinstance(value, float) else clean(value))


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = f"<thead><tr>{''.join(f'<th>{_text(column)}</th>' for column in columns)}</tr></thead>" if columns else ""
    lines = (f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{head}<tbody>{''.join(lines)}</tbody></table>"
