"""Pictures of ``report --plot`` (a bar for each form; the pack's own is divided) and of ``inspect --plot`` (betas)."""

import re
from pathlib import Path
from typing import Any

from lottapack.limits import size_text
from lottapack.reports.inspection import Summary
from lottapack.reports.pictures import INK, picture
from lottapack.reports.reporting import Report
from lottapack_cli.render import clean

_GREY = "#c9ced6"
_PARTS = ("#0b6e99", "#2f9e8f", "#8bc34a", "#f2b134", "#e4733c", "#b5446e", "#6f5fa8", "#8a8f98")
"""Colours of the pack's groups, which differ in lightness as well as in hue."""


def draw(report: Report, path: Path) -> None:
    """Write the picture, as PNG or SVG depending on the file's suffix. Raises UnsupportedError, OutputError."""
    with picture(path, (8, 1.4 + 0.4 * len(report.forms))) as axes:
        _bars(axes, report)


def draw_betas(summary: Summary, path: Path) -> None:
    """Draw beta by layer, in the order of the model, with a colour for each kind of layer.

    Raises UnsupportedError, OutputError.
    """
    betas = summary.betas()
    kinds = {name: re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", name) for name in betas}
    with picture(path, (8, 4)) as axes:
        axes.axhline(1, color=_GREY, linewidth=1)
        axes.axhline(0, color=_GREY, linewidth=1)
        for number, kind in enumerate(dict.fromkeys(kinds.values())):
            places = [place for place, name in enumerate(betas) if kinds[name] == kind]
            values = [beta for name, beta in betas.items() if kinds[name] == kind]
            label = _plain(kind, 40) if number < _NAMED else None
            axes.plot(places, values, "o", color=_PARTS[number % len(_PARTS)], label=label, markersize=5)
        axes.set_xlabel("layer, from the input to the output")
        axes.set_ylabel("beta")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"{_plain(summary.path.name, 48)}: factor of the backbone", loc="left", color=INK, weight="bold")
        if len(set(kinds.values())) > 1:
            axes.figure.legend(loc="outside lower left", ncols=3, frameon=False, labelcolor=INK)


_NAMED = 24
"""How many kinds of layers the legend names."""


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
            color=INK,
            weight="bold" if row == 0 else "normal",
        )
    axes.set_yticks(range(len(report.forms)), [_plain(form.label, 32) for form in report.forms])
    axes.get_yticklabels()[0].set_weight("bold")
    axes.set_xlim(0, largest * 1.26)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{_plain(report.path.name, 48)}: {report.numel:,} parameters", loc="left", color=INK, weight="bold")


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
    axes.figure.legend(loc="outside lower left", ncols=4, frameon=False, labelcolor=INK, handlelength=0.9)
