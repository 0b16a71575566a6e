"""The result of study(): scores by rank, and the smallest rank within the tolerance."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from lottapack.display import Displayed, Facts
from lottapack.errors import ScaffoldError
from lottapack.format.results import Result
from lottapack.reports.pictures import INK, picture
from lottapack.studying.records import Run
from lottapack.studying.search import FULL, LORA, LOTTA, Plan, Trial


@dataclass(frozen=True, slots=True)
class Point:
    """The runs of one rank, or of full training, whose rank is None.

    ``scores``: by seed, from 0. ``trained`` and ``total``: elements that trained, and those of the plain model.
    ``seconds``: the median time of a run.
    """

    rank: int | None
    scores: tuple[float, ...]
    trained: int
    total: int
    seconds: float

    @property
    def mean(self) -> float:
        """The mean score."""
        return statistics.mean(self.scores)

    @property
    def deviation(self) -> float | None:
        """The standard deviation over the seeds, or None for one seed."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    def text(self) -> str:
        """Return ``0.974 ± 0.003``, or ``0.974`` for one seed."""
        spread = "" if self.deviation is None else f" ± {self.deviation:.3g}"
        return f"{self.mean:.4g}{spread}"


@dataclass(frozen=True, slots=True, repr=False)
class Study(Displayed):
    """How the score depends on the rank.

    Attributes:
        full: full training. curve: random backbones by rank. lora: plain LoRA on trained weights by rank, if asked for.
        tolerance, target: how far a rank may stay behind, and the score that it must reach.
        rank: the smallest rank that reaches it with all seeds, or None. It estimates the task's intrinsic dimension.
        seeds: how many seeds decided. maximise: whether a larger score is better.
    """

    full: Point
    curve: tuple[Point, ...]
    lora: tuple[Point, ...]
    tolerance: float
    target: float
    rank: int | None
    seeds: int
    maximise: bool

    @classmethod
    def of(cls, plan: Plan, runs: Mapping[Trial, Run]) -> "Study":
        """Return the result of finished runs."""
        scores = {trial: run.score for trial, run in runs.items()}
        return cls(
            full=_points(runs.values(), FULL)[0],
            curve=_points(runs.values(), LOTTA),
            lora=_points(runs.values(), LORA),
            tolerance=plan.tolerance,
            target=plan.target(scores),
            rank=plan.smallest(scores),
            seeds=plan.seeds,
            maximise=plan.maximise,
        )

    def result(self, *, task: str, dataset: str, metric: str, chance: float | None = None) -> Result:
        """Return the score of the smallest rank within the tolerance, for ``pack(..., results=[...])``.

        Raises ScaffoldError if every rank stays further behind.
        """
        point = next((point for point in self.curve if point.rank == self.rank), None)
        if point is None:
            raise ScaffoldError(
                f"every rank stays more than {self.tolerance:g} behind full training",
                hint="Study larger `ranks`, or a larger `tolerance`.",
            )
        return Result(
            task=task,
            dataset=dataset,
            metric=metric,
            score=point.mean,
            deviation=point.deviation,
            seeds=len(point.scores),
            rank=point.rank,
            full=self.full.mean,
            chance=chance,
        )

    def results(self) -> dict[str, str]:
        """Return rows for a model card, as push() takes them: ``push(..., results=study.results())``."""
        rows = {f"full training, {len(self.full.scores)} seeds": self.full.text()}
        for label, points in (("random backbone", self.curve), ("plain LoRA", self.lora)):
            rows |= {
                f"{label}, rank {p.rank} ({p.trained / p.total:.2%} trained), {len(p.scores)} seeds": p.text()
                for p in points
            }
        return rows | {self._question(): "none" if self.rank is None else str(self.rank)}

    def markdown(self) -> str:
        """Return the curve as a GitHub table."""
        rows = [("full training", self.full), *((f"rank {p.rank}", p) for p in self.curve)]
        rows += [(f"plain LoRA, rank {p.rank}", p) for p in self.lora]
        lines = [
            f"| {label} | {p.text()} | {len(p.scores)} | {p.trained:,} | {p.trained / p.total:.2%} | {p.seconds:.1f} |"
            for label, p in rows
        ]
        head = "| | score | seeds | trained | of the model | seconds |\n| --- | ---: | ---: | ---: | ---: | ---: |"
        answer = "none" if self.rank is None else str(self.rank)
        return "\n".join([head, *lines, "", f"{self._question().capitalize()}: {answer}."])

    def plot(self, path: str | PathLike[str]) -> Path:
        """Draw the curve to a .png or .svg file. Needs matplotlib (``pip install 'lottapack[plot]'``)."""
        return _draw(self, Path(path))

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON can hold it."""
        return {
            "rank": self.rank,
            "tolerance": self.tolerance,
            "target": self.target,
            "seeds": self.seeds,
            "maximise": self.maximise,
            "full": _plain(self.full),
            "curve": [_plain(point) for point in self.curve],
            "lora": [_plain(point) for point in self.lora],
        }

    def _question(self) -> str:
        return f"smallest rank within {self.tolerance:g} of full training"

    def _facts(self) -> Facts:
        answer = "none" if self.rank is None else self.rank
        line = f"{answer}, full training reaches {self.full.text()}"
        points = [(f"rank {p.rank}", p) for p in self.curve] + [(f"plain LoRA, rank {p.rank}", p) for p in self.lora]
        rows = [(label, p.text(), len(p.scores), f"{p.trained / p.total:.2%}") for label, p in points]
        return Facts(self._question(), line, {}, ("", "score", "seeds", "trained"), rows)


def _points(runs: Iterable[Run], side: str) -> tuple[Point, ...]:
    by_rank: dict[int | None, list[Run]] = {}
    for run in sorted((run for run in runs if run.side == side), key=lambda run: (run.rank or 0, run.seed)):
        by_rank.setdefault(run.rank, []).append(run)
    return tuple(
        Point(
            rank,
            tuple(run.score for run in group),
            group[0].trained,
            group[0].total,
            statistics.median(run.seconds for run in group),
        )
        for rank, group in by_rank.items()
    )


def _plain(point: Point) -> dict[str, Any]:
    return {
        "rank": point.rank,
        "scores": [*point.scores],
        "mean": point.mean,
        "deviation": point.deviation,
        "trained": point.trained,
        "total": point.total,
        "seconds": point.seconds,
    }


_BLUE, _ORANGE, _GREY = "#0b6e99", "#e4733c", "#8a8f98"


def _draw(study: Study, path: Path) -> Path:
    """Draw the scores over the ranks, with full training as a line and the tolerance below it.

    Raises OutputError for another ending than .png or .svg, UnsupportedError without matplotlib.
    """
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


def _curve(axes: Any, points: Sequence[Point], label: str, colour: str) -> None:
    axes.errorbar(
        [point.rank for point in points],
        [point.mean for point in points],
        yerr=[point.deviation or 0.0 for point in points],
        label=label,
        color=colour,
        marker="o",
        capsize=3,
    )
