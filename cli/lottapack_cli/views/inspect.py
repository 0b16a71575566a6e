"""A pack's summary: a header, then its parameters by role."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

from lottapack.format.results import Result
from lottapack.limits import size_text
from lottapack.reports.inspection import ParameterSummary, Summary
from lottapack_cli.render import Part, facts, heading, table
from lottapack_cli.views.ranges import Group, collapse

_Row = Group[ParameterSummary]

_WHAT = {
    "adapted": "random backbone with a low-rank adapter",
    "seeded": "random backbone",
    "stored": "in the file",
    "constant": "one value",
    "tied": "shares another's storage",
}


def view(summary: Summary, *, every: bool) -> Iterator[Part]:
    """Yield the header and one table per role. ``every``: one line for each parameter."""
    yield header(summary)
    for role, what in _WHAT.items():
        found = [entry for entry in summary.parameters if entry.role == role]
        if found:
            yield from _role(role, what, found, every)


def header(summary: Summary) -> Part:
    """Return the summary of the pack, without its parameters."""
    share = f" ({summary.trained / summary.numel:.2%} trained: {summary.trained:,})" if summary.numel else ""
    tables = "".join(f", table {name} of {bits} bits" for name, bits in summary.tables.items())
    drawn_by = f" (torch {summary.torch}, {summary.capability})" if summary.torch else ""
    rows = [
        ("file", str(summary.path)),
        ("size", f"{size_text(summary.file_size)} ({summary.file_size:,} bytes), format {summary.format_version}"),
        ("architecture", f"{summary.architecture} ({summary.family})"),
        ("parameters", f"{summary.numel:,}{share}"),
        ("random", f"{summary.rng}{drawn_by}, seed {int(summary.seed, 16)} (0x{summary.seed}){tables}"),
        *([("beta", _betas(summary.betas()))] if summary.betas() else []),
        *([("scaffolds", _scaffolds(summary))] if summary.scaffolds else []),
        *(
            [("files", ", ".join(f"{name} ({size_text(size)})" for name, size in summary.files.items()))]
            if summary.files
            else []
        ),
        *[("result", _result(one)) for one in summary.results],
        ("written by", ", ".join(f"{tool} {version}" for tool, version in summary.provenance.items()) or "unknown"),
    ]
    if summary.allow:
        rows.insert(3, ("needs", f"allow {', '.join(summary.allow)}: it is rebuilt by code that a loader must trust"))
    return facts(rows)


def _betas(betas: Mapping[str, float]) -> str:
    """Return the median of the backbone's factors, and the layers with the smallest and the largest."""
    least, most = min(betas, key=lambda name: betas[name]), max(betas, key=lambda name: betas[name])
    middle = f"median {median(betas.values()):.3g}"
    return middle if least == most else f"{middle}, from {betas[least]:.3g} ({least}) to {betas[most]:.3g} ({most})"


def _result(result: Result) -> str:
    """Return ``accuracy 0.97 on mnist (full training 0.98, rank 8, 5 seeds)``."""
    spread = "" if result.deviation is None else f" ± {result.deviation:g}"
    more = [
        *([] if result.full is None else [f"full training {result.full:g}"]),
        *([] if result.chance is None else [f"chance {result.chance:g}"]),
        *([] if result.rank is None else [f"rank {result.rank}"]),
        *([] if result.seeds is None else [f"{result.seeds} seeds"]),
    ]
    told = f" ({', '.join(more)})" if more else ""
    return f"{result.metric} {result.score:g}{spread} on {result.dataset}, {result.task}{told}"


def _scaffolds(summary: Summary) -> str:
    """Return the scaffolds other than the default one."""
    return ", ".join(f"{name}: seed {int(seed, 16)} (0x{seed})" for name, seed in summary.scaffolds.items())


_Cell = Callable[[_Row], str]
_COLUMNS: dict[str, tuple[str, _Cell]] = {
    "dtype": ("dtype", lambda row: row.items[0].dtype or ""),
    "distribution": ("distribution", lambda row: row.items[0].distribution or ""),
    "rank": (">rank", lambda row: str(row.items[0].rank)),
    "alpha": (">alpha", lambda row: f"{row.items[0].alpha:g}"),
    "scaling": ("scaling", lambda row: ", ".join(_learned(row.items[0]))),
    "trained": ("trained", lambda row: "yes" if row.items[0].trained else "no"),
    "coding": ("coding", lambda row: row.items[0].coding or ""),
    "group": ("for", lambda row: row.items[0].group or ""),
    "shape": ("shape", lambda row: shape_text(row.items[0].shape)),
    "scale": (">scale", lambda row: f"{row.items[0].scale:.3g}"),
    "beta": (">beta", lambda row: _beta(row.items)),
    "to": ("tied to", lambda row: row.items[0].to or ""),
}
_OF_ROLE = {
    "adapted": ("shape", "dtype", "distribution", "scale", "rank", "alpha", "scaling", "coding", "beta"),
    "seeded": ("shape", "dtype", "distribution", "scale"),
    "stored": ("shape", "dtype", "coding", "group", "trained"),
    "constant": ("shape", "dtype"),
    "tied": ("to",),
}
_SAID_ONCE = {"dtype": "", "coding": "", "distribution": "", "rank": "rank ", "alpha": "alpha ", "scaling": "scaling "}
"""Columns that move to the heading if all rows have the same value, with the word before that value."""


def _role(role: str, what: str, found: Sequence[ParameterSummary], every: bool) -> Iterator[Part]:
    rows = collapse(found, lambda entry: entry.name, lambda entry: entry.name if every else _likeness(entry))
    columns, shared = [], []
    for key in _OF_ROLE[role]:
        title, cell = _COLUMNS[key]
        values = {cell(row) for row in rows}
        if key in _SAID_ONCE and len(values) == 1:
            value = values.pop()
            shared += [_SAID_ONCE[key] + value] if value else []
        else:
            columns.append((title, cell))
    count = f"{len(found)} tensor{'s' if len(found) > 1 else ''}"
    elements = sum(math.prod(entry.shape) for entry in found if entry.shape is not None)
    counts = [count, *([f"{elements:,} values"] if role != "tied" else [])]
    yield heading(role, f"{what}: {', '.join([*counts, *shared])}")
    collapsed = any(len(row.items) > 1 for row in rows)
    titles = ["name", *([">count"] if collapsed else []), *(title for title, _ in columns)]
    yield table(
        titles,
        ([row.label, *([_times(row)] if collapsed else []), *(cell(row) for _, cell in columns)] for row in rows),
    )


def _times(row: _Row) -> str:
    return f"x{len(row.items)}" if len(row.items) > 1 else ""


def _likeness(entry: ParameterSummary) -> tuple[object, ...]:
    drawn = (entry.shape, entry.dtype, entry.distribution, entry.scale, entry.rank, entry.alpha, entry.scaling)
    return (
        *drawn,
        entry.beta_learned,
        entry.magnitude,
        entry.vectors,
        entry.group,
        entry.coding,
        entry.trained,
        entry.to,
    )


def _learned(entry: ParameterSummary) -> Iterator[str]:
    """Yield the scaling, and what the adapter has beside factors and beta."""
    yield entry.scaling or ""
    if entry.magnitude:
        yield "magnitude"
    yield from entry.vectors or ()


def shape_text(shape: tuple[int, ...] | None) -> str:
    """Return ``1024 x 64``; a shape without dimensions is a single number."""
    return " x ".join(map(str, shape)) if shape else "scalar"


def _beta(entries: Sequence[ParameterSummary]) -> str:
    betas = [entry.beta for entry in entries if entry.beta is not None]
    low, high = f"{min(betas):.3g}", f"{max(betas):.3g}"
    return (low if low == high else f"{low}..{high}") + ("" if entries[0].beta_learned else " fixed")
