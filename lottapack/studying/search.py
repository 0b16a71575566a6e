"""Which runs a study needs next, as a function of the scores so far. A study that was killed thus continues alike."""

import reprlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import inf
from numbers import Integral, Real
from typing import NamedTuple

from lottapack.errors import ScaffoldError

FULL, LOTTA, LORA = "full", "lotta", "lora"
"""Trained in full; adapters on a random backbone; adapters on a trained one."""


class Trial(NamedTuple):
    """One run. ``rank`` is None for full training."""

    side: str
    rank: int | None
    seed: int


Scores = Mapping[Trial, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """The question of a study: the arguments of study()."""

    ranks: tuple[int, ...]
    seeds: int
    tolerance: float
    maximise: bool
    thorough: bool
    with_lora: bool

    def wanted(self, scores: Scores) -> list[Trial]:
        """Return the runs of the first round that is not complete; nothing if the study is."""
        for trials in self._rounds(scores):
            if not scores.keys() >= {*trials}:
                return trials
        return []

    def _rounds(self, scores: Scores) -> Iterator[list[Trial]]:
        """Yield round after round. Each needs the scores of those before it."""
        sides = [(FULL, None), *((LORA, rank) for rank in self.ranks if self.with_lora)]
        every = [Trial(side, rank, seed) for (side, rank), seed in product(sides, range(self.seeds))]
        first = range(self.seeds if self.thorough else 1)
        yield [*every, *(Trial(LOTTA, rank, seed) for rank, seed in product(self.ranks, first))]
        yield from self._halving(scores)
        yield from self._bisection(scores)

    def _halving(self, scores: Scores) -> Iterator[list[Trial]]:
        """Yield runs with more seeds for the half of the ranks that lie nearest to where the target is crossed."""
        alive, count = [*self.ranks], 1
        while count < self.seeds and len(alive) > 1:
            # By the seeds of this round alone, so that a repetition decides alike.
            passing = [place for place, rank in enumerate(alive) if self._passes(scores, rank, count)]
            crossing = min(passing, default=len(alive)) - 0.5
            places = sorted(range(len(alive)), key=partial(_distance, crossing))
            alive = [alive[place] for place in sorted(places[: (len(alive) + 1) // 2])]
            count = min(2 * count, self.seeds)
            yield [Trial(LOTTA, rank, seed) for rank, seed in product(alive, range(count))]

    def _bisection(self, scores: Scores) -> Iterator[list[Trial]]:
        """Yield runs with all seeds of the smallest rank that passes and of the largest below it, then between them."""
        while True:
            high = self.smallest(scores)
            below = [rank for rank in ranks_of(scores) if high is None or rank < high]
            bounds = [*below[-1:], *([] if high is None else [high])]
            yield [Trial(LOTTA, rank, seed) for rank, seed in product(bounds, range(self.seeds))]
            if high is None or not below or high - below[-1] < 2:
                return
            yield [Trial(LOTTA, (below[-1] + high) // 2, seed) for seed in range(self.seeds)]

    def target(self, scores: Scores) -> float:
        """Return the score that a rank must reach."""
        full = statistics.mean(score for trial, score in scores.items() if trial.side == FULL)
        return full - self.tolerance if self.maximise else full + self.tolerance

    def smallest(self, scores: Scores) -> int | None:
        """Return the smallest rank whose mean reaches the target, or None."""
        return next((rank for rank in ranks_of(scores) if self._passes(scores, rank)), None)

    def _passes(self, scores: Scores, rank: int, seeds: int | None = None) -> bool:
        mean, target = mean_of(scores, rank, seeds), self.target(scores)
        return mean >= target if self.maximise else mean <= target


def ranks_of(scores: Scores) -> list[int]:
    """Return the ranks of random backbones that have a score, in order."""
    return sorted({trial.rank for trial in scores if trial.side == LOTTA and trial.rank is not None})


def mean_of(scores: Scores, rank: int, seeds: int | None = None) -> float:
    """Return the mean score of a rank, of all seeds or of the first few."""
    return statistics.mean(
        score
        for trial, score in scores.items()
        if trial.side == LOTTA and trial.rank == rank and (seeds is None or trial.seed < seeds)
    )


def _distance(place: float, other: float) -> float:
    return abs(place - other)


def check(ranks: Sequence[object], seeds: object, tolerance: object, workers: object, options: object) -> None:
    """Raise ScaffoldError, naming the argument of study() that is not valid."""
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise ScaffoldError(
            f"options={reprlib.repr(options)} must be a mapping of names", hint='Pass a dict, such as {"alpha": 8}.'
        )
    if own := sorted({"rank", "seed"} & options.keys()):
        raise ScaffoldError(
            f"options: study() sets `{own[0]}` itself", hint="Pass `ranks` and `seeds` to study(), and leave it out."
        )
    if not ranks or any(not _counts(rank) for rank in ranks):
        raise ScaffoldError(f"ranks={ranks!r} must be integers of at least 1", hint="Pass ranks such as (1, 4, 16).")
    if not _counts(seeds):
        raise ScaffoldError(f"seeds={seeds!r} must be an integer of at least 1", hint="Pass 3 or more.")
    if not (isinstance(tolerance, Real) and 0 <= float(tolerance) < inf):
        raise ScaffoldError(
            f"tolerance={tolerance!r} must be a number of at least 0", hint="Give it in the score's own unit."
        )
    if workers == 0:
        raise ScaffoldError("workers=0 runs nothing", hint="Pass 1 or more, or -1 for one process a core.")


def _counts(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool) and int(number) >= 1
