"""The paper's Table 10 next to measured packs."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lottapack_cli.render import Part, heading, table
from lottapack_cli.views.report import markdown_table

if TYPE_CHECKING:
    from lottapack.reports.size_table import SizeRow

_COLUMNS = [
    "Llama",
    ">paper: fp16",
    ">4-bit",
    ">LottaLoRA",
    "pack",
    ">MiB",
    ">of the paper's",
    ">of fp16 pack",
    ">bits per weight",
]
_NOTE = "sizes in MiB (the paper writes MB); bits per weight over the whole model"


def view(rows: "Sequence[SizeRow]") -> Iterator[Part]:
    """Yield the paper's sizes once per scale, then a line for each pack."""
    yield heading("Table 10 of arXiv 2604.08749, and measured packs", _NOTE)
    yield table(_COLUMNS, _lines(rows))


def markdown(rows: "Sequence[SizeRow]") -> str:
    """Return the same as GitHub Markdown."""
    return markdown_table(_COLUMNS, list(_lines(rows)))


def _lines(rows: "Sequence[SizeRow]") -> Iterator[list[str]]:
    before = None
    for row in rows:
        paper = [_whole(row.paper_fp16), _whole(row.paper_4bit), _whole(row.paper_lottalora)]
        named = row.scale is not None and row.scale == before
        before = row.scale
        yield [
            *(["", "", "", ""] if named else [row.scale or "another model", *paper]),
            f"{row.path.name}: {row.form}" if row.path else row.form,
            f"{row.mib:.2f}",
            "" if row.of_paper is None else f"{row.of_paper:.2f}",
            "" if row.of_fp16 is None else f"{row.of_fp16:.3f}",
            f"{row.bits_per_weight:.2f}",
        ]


def _whole(size: int | None) -> str:
    return "" if size is None else f"{size:,}"
