"""What a pack is, for its page: read from the header alone, within limits, whatever its author wrote."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lottapack.errors import LottapackError
from lottapack.format.files import GRAPH
from lottapack.limits import size_text
from lottapack.reports.inspection import ParameterSummary, Summary, inspect
from lottapack.reports.reporting import Report, report

LARGEST_HEADER: Final = 2**20
"""The bytes of a header up to which a pack is described; reading a header of that size takes about two seconds."""
_MOST_ROWS: Final = 12


@dataclass(frozen=True, slots=True)
class Bar:
    """A size beside others. ``share``: its part of the largest, in percent."""

    label: str
    size: int
    share: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Adapters:
    """Adapters with the same form: how many, and the range of their betas."""

    count: int
    rank: int
    alpha: float
    scaling: str
    distribution: str
    betas: str


@dataclass(frozen=True, slots=True)
class Description:
    """What a page says of a pack, or in ``fault`` why it cannot say it."""

    facts: tuple[tuple[str, str], ...] = ()
    forms: tuple[Bar, ...] = ()
    groups: tuple[Bar, ...] = ()
    adapters: tuple[Adapters, ...] = ()
    more_adapters: int = 0
    allow: tuple[str, ...] = ()
    graph: bool = False
    fault: str = ""


def describe(path: Path) -> Description:
    """Describe the pack in a file."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
        if size > LARGEST_HEADER:
            return Description(fault=f"Its header has {size_text(size)}: use lottapack inspect to see it.")
        return _described(inspect(path), report(path))
    except LottapackError as fault:
        # The path is that of the registry's own file, which is nobody's business.
        return Description(fault=str(fault).replace(str(path), "this file"))
    except OSError:
        return Description(fault="The registry cannot read the file.")


def _described(summary: Summary, sizes: Report) -> Description:
    drawn = Counter(one.distribution for one in summary.parameters if one.distribution)
    share = f" ({summary.trained / summary.numel:.2%})" if summary.numel else ""
    facts = [
        ("architecture", f"{summary.architecture} ({summary.family})"),
        ("parameters", f"{summary.numel:,}"),
        ("trained", f"{summary.trained:,}{share}"),
        ("seed", f"{int(summary.seed, 16)}"),
        ("generator", " ".join(filter(None, [summary.rng, summary.torch and f"torch {summary.torch}"]))),
        ("distributions", _listed(drawn)),
        ("tables", _listed(f"{name} ({bits} bits)" for name, bits in summary.tables.items())),
        ("more scaffolds", _listed(f"{name} (seed {int(seed, 16)})" for name, seed in summary.scaffolds.items())),
        ("files inside", _listed(f"{name} ({size_text(size)})" for name, size in summary.files.items())),
        ("bits per weight", _number(sizes.bits_per_weight)),
        ("results", _listed(f"{one.metric} {one.score:g} on {one.dataset}" for one in summary.results)),
        ("format", summary.format_version),
        ("written by", _listed(f"{tool} {version}" for tool, version in summary.provenance.items())),
    ]
    forms = [(row.label, row.size, f"{_number(row.ratio)} × this pack") for row in sizes.forms]
    groups = [(label, size, "") for label, size in sizes.by_group.items() if size]
    adapters = _adapters(one for one in summary.parameters if one.role == "adapted")
    return Description(
        facts=tuple((label, value) for label, value in facts if value),
        forms=_bars(forms),
        groups=_bars(groups),
        adapters=tuple(adapters[:_MOST_ROWS]),
        more_adapters=len(adapters[_MOST_ROWS:]),
        allow=summary.allow,
        graph=GRAPH in summary.files,
    )


def _bars(rows: Sequence[tuple[str, int, str]]) -> tuple[Bar, ...]:
    largest = max((size for _, size, _ in rows), default=0) or 1
    return tuple(Bar(label, size, round(100 * size / largest, 2), note) for label, size, note in rows)


def _adapters(parameters: Iterable[ParameterSummary]) -> list[Adapters]:
    """Group adapters by their form, the most frequent first."""
    groups: dict[tuple[int, float, str, str], list[ParameterSummary]] = {}
    for one in parameters:
        key = (one.rank or 0, one.alpha or 0.0, one.scaling or "", one.distribution or "")
        groups.setdefault(key, []).append(one)
    made = [
        Adapters(len(members), *key, _range([one.beta for one in members if one.beta_learned and one.beta is not None]))
        for key, members in groups.items()
    ]
    return sorted(made, key=lambda one: -one.count)


def _range(betas: list[float]) -> str:
    finite = [beta for beta in betas if math.isfinite(beta)]
    if not betas:
        return "fixed at 1"
    if not finite:
        return "not finite"
    low, high = _number(min(finite)), _number(max(finite))
    return (low if low == high else f"{low} to {high}") + (", some not finite" if len(finite) < len(betas) else "")


def _number(value: float) -> str:
    return f"{value:.4g}"


def _listed(names: Iterable[str]) -> str:
    """Return some of the names."""
    every = list(names)
    more = f" and {len(every) - _MOST_ROWS:,} more" if len(every) > _MOST_ROWS else ""
    return ", ".join(name[:200] for name in every[:_MOST_ROWS]) + more
