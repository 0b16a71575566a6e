"""The picture of a study: scores over ranks, with full training as a line and the tolerance below it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottapack.reports.pictures import INK, picture

if TYPE_CHECKING:
    from lottapack.studying.curve import Point, Study

_BLUE, _ORANGE, _GREY = "#0b6e99", "#e4733c", "#8a8f98"


def draw(study: "Study", path: Path) -> Path:
    """Draw a study. Raises OutputError for another ending than .png or .svg, UnsupportedError without matplotlib."""
    with picture(path, (6.4, 3.8)) as axes:
        _curve(axes, study.curve, "random backbone", _BLUE)
        if study.lora:
            _curve(axes, study.lora, "plain LoRA on a trained backbone", _ORANGE)
        full, spread = study.full.mean, study.full.deviation or 0.0
        axes.axhline(full, color=_GREY, label="full training")
        axes.axhspan(full - spread, full + spread, color=_GREY, alpha=0.2, linewidth=0)
        axes.axhline(study.target, color=_GREY, linestyle=":", label=f"within {study.tolerance:g}")
        if study.rank is not None:
            axes.axvline(study.rank, color=_BLUE, linestyle=":")
            axes.set_title(f"rank {study.rank} reaches full training within {study.tolerance:g}", loc="left", color=INK)
        else:
            axes.set_title(f"no rank reaches full training within {study.tolerance:g}", loc="left", color=INK)
        ranks = sorted({point.rank for point in (*study.curve, *study.lora) if point.rank is not None})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ranks, [str(rank) for rank in ranks])
        axes.minorticks_off()
        axes.set_xlabel("rank")
        axes.set_ylabel("score")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, labelcolor=INK)
    return path


def _curve(axes: Any, points: "Sequence[Point]", label: str, colour: str) -> None:
    axes.errorbar(
        [point.rank for point in points],
        [point.mean for point in points],
        yerr=[point.deviation or 0.0 for point in points],
        label=label,
        color=colour,
        marker="o",
        capsize=3,
    )
