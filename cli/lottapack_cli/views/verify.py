"""The outcomes of a verification: counts, and every line that is not in order."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lottapack.reports.verification import Check, Verification
from lottapack_cli.render import heading, plain, table

if TYPE_CHECKING:
    from rich.console import RenderableType

_WHAT = {
    "format": "header and descriptor",
    "signature": "signature of the file",
    "sha256": "tensors in the file",
    "bool": "values of bool tensors",
    "coding": "decoded tensors",
    "fingerprint": "rebuilt backbone weights",
    "architecture": "model can be built",
}
_STATUSES = ("ok", "failed", "skipped")


def record(outcome: Verification) -> dict[str, Any]:
    """All outcomes, and whether the pack passed."""
    return {"ok": outcome.ok, **plain(outcome)}


def view(outcome: Verification, *, every: bool) -> "Iterator[RenderableType]":
    """Counts by kind, then every failed and skipped check in full; ``every``: those that passed as well."""
    count: Counter[tuple[str, str]] = Counter((check.what, check.status) for check in outcome.checks)
    kinds = list(dict.fromkeys([*_WHAT, *(check.what for check in outcome.checks)]))
    yield table(
        ["check", "of", *(f">{status}" for status in _STATUSES)],
        (
            [kind, _WHAT.get(kind, ""), *(str(count[kind, status]) for status in _STATUSES)]
            for kind in kinds
            if any(count[kind, status] for status in _STATUSES)
        ),
    )
    for status in ("failed", "skipped"):
        yield from _lines(status, [check for check in outcome.checks if check.status == status])
    if every:
        yield from _lines("ok", [check for check in outcome.checks if check.status == "ok"])
    yield heading("intact" if outcome.ok else "NOT intact", str(outcome.path))
    yield f"sha256 {outcome.sha256}"


def _lines(status: str, checks: list[Check]) -> "Iterator[RenderableType]":
    if checks:
        yield heading(status)
        yield from (f"  {c.what}  {c.where}" + (f"  {c.detail}" if c.detail else "") for c in checks)
