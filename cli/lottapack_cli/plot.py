"""The picture of ``report --plot``: a bar for each form; the pack's own bar is divided into its groups."""

import warnings
from pathlib import Path
from typing import Any

from lottapack.errors import OutputError, UnsupportedError
from lottapack.files.output import atomic_file
from lottapack.limits import size_text
from lottapack.reports.reporting import Report
from lottapack_cli.render import clean

_FORMATS = (".png", ".svg")
_GREY, _INK = "#c9ced6", "#24292f"
_PARTS = ("#0b6e99", "#2f9e8f", "#8bc34a", "#f2b134", "#e4733c", "#b5446e", "#6f5fa8", "#8a8f98")
"""Colours of the pack's groups, which differ in lightness as well as in hue."""


def draw(report: Report, path: Path) -> None:
    """Write the picture, as PNG or SVG depending on the file's suffix. Raises UnsupportedError, OutputError."""
    kind = path.suffix.lower()
    if kind not in _FORMATS:
        raise OutputError(f"{path}: unknown image format", hint=f"Name a file that ends in {' or '.join(_FORMATS)}.")
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as fault:
        raise UnsupportedError("matplotlib is not installed", hint="pip install 'lottapack[plot]'") from fault
    # Text in the SVG stays text, and the same report gives the same bytes.
    look = {"svg.fonttype": "none", "svg.hashsalt": "lottapack", "font.size": 10}
    with matplotlib.rc_context(look), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a character that the font lacks is drawn as a box
        figure = Figure(figsize=(8, 1.4 + 0.4 * len(report.forms)), layout="constrained")
        _bars(figure.subplots(), report)
        with atomic_file(path) as file:
            metadata = {"Date": None} if kind == ".svg" else {"Software": None}
            figure.savefig(file, format=kind[1:], dpi=160, metadata=metadata)


def _bars(axes: Any, report: Report) -> None:
    largest = max(form.size for form in report.forms)
    for row, form in enumerate(report.forms):
        if row == 0:
            _stack(axes, report)
        else:
            axes.barh(row, form.size, color=_GREY, height=0.62)
        ratio = "" if row == 0 else f"  ({form.ratio:.3g} times)"
        axes.text(
            form.size + largest / 100,
            row,
            size_text(form.size) + ratio,
            va="center_baseline",
            color=_INK,
            weight="bold" if row == 0 else "normal",
        )
    axes.set_yticks(range(len(report.forms)), [_plain(form.label, 32) for form in report.forms])
    axes.get_yticklabels()[0].set_weight("bold")
    axes.set_xlim(0, largest * 1.26)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.tick_params(length=0, labelcolor=_INK)
    axes.spines[:].set_visible(False)
    axes.set_title(
        f"{_plain(report.path.name, 48)}: {report.numel:,} parameters", loc="left", color=_INK, weight="bold"
    )


def _plain(text: str, most: int) -> str:
    """Return a file's name as matplotlib can draw it: without formulas and invalid characters, and not too long."""
    text = clean(text)
    if len(text) > most:
        text = f"{text[: most // 2 - 1]}\u2026{text[-most // 2 :]}"
    return text.replace("$", r"\$")


def _stack(axes: Any, report: Report) -> None:
    begin = 0
    groups = {group: size for group, size in report.by_group.items() if size}
    for index, (group, size) in enumerate(groups.items()):
        label = f"{group}  {size_text(size)}"
        axes.barh(0, size, left=begin, color=_PARTS[index % len(_PARTS)], height=0.62, label=label)
        begin += size
    axes.figure.legend(loc="outside lower left", ncols=4, frameon=False, labelcolor=_INK, handlelength=0.9)
