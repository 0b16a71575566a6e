"""Compare a reader's answers with those that are due."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from lottapack.conformance.kit import LEVELS, Case
from lottapack.conformance.talk import Reader

_OPTIONAL = ("philox", "stream", "table", "elements", "decode", "merge", "json")
"""Requests that a reader may leave ``unsupported``: they find a fault earlier than whole packs do."""


@dataclass
class Score:
    """The outcome of a run: counts of ``passed``, ``skipped`` and ``failed`` by request, and what failed."""

    level: str
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[tuple[Case, tuple[str, ...]]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing failed, and something was asked."""
        return not self.failures and bool(self.counts)


def outcome(case: Case, answer: tuple[str, ...], level: str) -> str:
    """Return ``passed``, ``skipped`` or ``failed``.

    A reader of the level *load* refuses what it must for whatever reason, and may accept what only *judge* refuses.
    """
    if answer == ("unsupported",):
        return "skipped" if case.request[0] in _OPTIONAL else "failed"
    if answer[0] == "crashed":
        return "failed"
    if LEVELS.index(case.level) > LEVELS.index(level):
        return "skipped"
    due = case.answer
    if due[0] == "refused":  # the place is advice
        known = 3 if level == LEVELS[-1] else 1
        return "passed" if answer[:known] == due[:known] else "failed"
    return "passed" if answer == due else "failed"


def run(reader: Reader, cases: Iterable[Case], level: str) -> Score:
    """Ask every case, and return the score at a level."""
    score = Score(level)
    for case in cases:
        answer = reader.ask(case.request)
        said = outcome(case, answer, level)
        score.counts.setdefault(case.request[0], Counter())[said] += 1
        if said == "failed":
            score.failures.append((case, answer))
    return score
