"""Sizes of a pack and of the forms it replaces: as tables, and as Markdown."""

from collections.abc import Iterator, Mapping, Sequence

from lottapack.limits import size_text
from lottapack.reports.reporting import LINKS, Report
from lottapack_cli.render import Part, clean, duration, heading, table
from lottapack_cli.tables import Column

_FORMS = ["form", ">size", ">times the pack", *(f"?>at {link} Mbit/s" for link in LINKS)]
_PARTS = [
    ("by group", "what the parameters are for", ["part", ">size", ">share", ">bits per number"]),
    ("by role", "how the parameters are stored", ["part", ">size", ">share"]),
]


def view(report: Report) -> Iterator[Part]:
    """Yield the forms, then the parts of the pack."""
    yield heading(str(report.path), _summary(report))
    yield table(_FORMS, _form_rows(report), strong=lambda row: row == 0)
    for (title, note, columns), rows in zip(_PARTS, _part_rows(report), strict=True):
        yield heading(title, note)
        yield table(columns, rows)
    yield heading("saved", "compared with the full model's tensors in their own dtypes")
    yield table(["step", ">size"], _saved_rows(report))
    yield heading("in memory", "after loading, by the backbone argument of load()")
    yield table(["backbone", ">size"], _memory_rows(report))


def markdown(report: Report) -> str:
    """Return the same as GitHub Markdown."""
    blocks = [f"**{_escape(report.path.name)}**: {_summary(report)}", markdown_table(_FORMS, _form_rows(report))]
    for (title, _, columns), rows in zip(_PARTS, _part_rows(report), strict=True):
        blocks.append(markdown_table([title, *columns[1:]], rows))
    blocks.append(markdown_table(["saved", ">size"], _saved_rows(report)))
    blocks.append(markdown_table(["in memory", ">size"], _memory_rows(report)))
    return "\n\n".join(blocks)


def _summary(report: Report) -> str:
    summary = f"{report.numel:,} parameters, {report.bits_per_weight:.3g} bits per weight"
    stored = report.in_full
    if sum(stored.values()) <= 0.5:
        return summary
    shares = ", ".join(f"{group} {share:.0%}" for group, share in stored.items() if share >= 0.005)
    return f"{summary}; {sum(stored.values()):.0%} of them stored in full: {shares}"


def _form_rows(report: Report) -> list[list[str]]:
    return [
        [form.label, size_text(form.size), f"{form.ratio:.3g}", *(duration(form.seconds[link]) for link in LINKS)]
        for form in report.forms
    ]


def _part_rows(report: Report) -> tuple[list[list[str]], list[list[str]]]:
    """Return the rows by group, with bits per number, and by role."""
    bits = report.bits_by_group
    groups = [[*row, f"{bits[row[0]]:.2f}" if row[0] in bits else ""] for row in _shares(report.by_group)]
    return groups, _shares(report.by_role)


def _shares(sizes: Mapping[str, int]) -> list[list[str]]:
    total = sum(sizes.values())
    return [[part, size_text(size), f"{size / total:.1%}"] for part, size in sizes.items() if size]


def _saved_rows(report: Report) -> list[list[str]]:
    return [[step, size_text(size) if size > 0 else f"-{size_text(-size)}"] for step, size in report.saved.items()]


def _memory_rows(report: Report) -> list[list[str]]:
    return [[backbone, size_text(size)] for backbone, size in report.memory.items()]


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of GitHub Markdown."""
    made = [Column.of(column) for column in columns]
    lines = [
        [column.title for column in made],
        ["---:" if column.right else "---" for column in made],
        *([_escape(cell) for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: str) -> str:
    return "".join(f"\\{c}" if c in "|\\`*_<>[]" else c for c in clean(text).replace("\n", " "))
