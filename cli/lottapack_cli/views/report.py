"""Sizes of a pack and of the forms it replaces: as tables, and as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lottapack.limits import size_text
from lottapack.reports.reporting import LINKS, Report
from lottapack_cli.render import clean, duration, heading, table

if TYPE_CHECKING:
    from rich.console import RenderableType

_FORMS = ["form", ">size", ">times the pack", *(f">at {link} Mbit/s" for link in LINKS)]
_PARTS = [("by group", "what it is for"), ("by role", "how it is kept")]


def view(report: Report) -> "Iterator[RenderableType]":
    """The forms, then what the pack is made of."""
    yield heading(str(report.path), _summary(report))
    yield table(_FORMS, _form_rows(report), strong=lambda row: row == 0)
    for (title, note), sizes in zip(_PARTS, (report.by_group, report.by_role), strict=True):
        yield heading(title, note)
        yield table(["part", ">size", ">share"], _part_rows(sizes))
    yield heading("in memory", "once loaded, by the backbone that load() is told")
    yield table(["backbone", ">size"], _memory_rows(report))


def markdown(report: Report) -> str:
    """The same as GitHub Markdown."""
    blocks = [f"**{_escape(report.path.name)}**: {_summary(report)}", markdown_table(_FORMS, _form_rows(report))]
    for (title, _), sizes in zip(_PARTS, (report.by_group, report.by_role), strict=True):
        blocks.append(markdown_table([title, ">size", ">share"], _part_rows(sizes)))
    blocks.append(markdown_table(["in memory", ">size"], _memory_rows(report)))
    return "\n\n".join(blocks)


def _summary(report: Report) -> str:
    return f"{report.numel:,} parameters, {report.bits_per_weight:.3g} bits per weight"


def _form_rows(report: Report) -> list[list[str]]:
    return [
        [form.label, size_text(form.size), f"{form.ratio:.3g}", *(duration(form.seconds[link]) for link in LINKS)]
        for form in report.forms
    ]


def _part_rows(sizes: Mapping[str, int]) -> list[list[str]]:
    total = sum(sizes.values())
    return [[part, size_text(size), f"{size / total:.1%}"] for part, size in sizes.items() if size]


def _memory_rows(report: Report) -> list[list[str]]:
    return [[backbone, size_text(size)] for backbone, size in report.memory.items()]


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of GitHub Markdown; a column whose title begins with ``>`` is right-aligned."""
    lines = [
        [column.removeprefix(">") for column in columns],
        ["---:" if column.startswith(">") else "---" for column in columns],
        *([_escape(cell) for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: str) -> str:
    return "".join(f"\\{c}" if c in "|\\`*_<>[]" else c for c in clean(text).replace("\n", " "))
