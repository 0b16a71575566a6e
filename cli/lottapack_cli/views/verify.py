"""The outcomes of a verification: counts, and a line for each check that did not pass."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lottapack.reports.verification import Check, Verification
from lottapack_cli.errors import in_options
from lottapack_cli.render import Part, heading, plain, table

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
OPTIONS = {"allow": "--allow", "max_bytes": "--max-bytes"}


@dataclass(frozen=True, slots=True)
class Checked:
    """One of several packs. ``pack``: as it was named; ``outcome`` or ``error``: its result."""

    pack: str
    exit_code: int
    outcome: Verification | None = None
    error: dict[str, Any] | None = None


def record_of(checked: Checked) -> dict[str, Any]:
    """Return one of several packs as JSON."""
    result = {"error": checked.error} if checked.outcome is None else plain(checked.outcome)
    return {"ok": not checked.exit_code, "pack": checked.pack, "exit_code": checked.exit_code, **result}


def view_of(checked: Checked, *, every: bool) -> Iterator[Part]:
    """Yield the failed checks of one of several packs, and a line. An error is already on standard error."""
    if checked.outcome is not None:
        yield from _outcomes(checked.outcome, every=every, but=("skipped",))


def counted(several: Sequence[Checked]) -> str:
    """Return how many packs were checked, and how many of them are intact."""
    intact = sum(not one.exit_code for one in several)
    return f"\n{intact} of {len(several)} packs intact"


def view(outcome: Verification, *, every: bool) -> Iterator[Part]:
    """Yield counts by kind, then every failed and skipped check in full; ``every``: also those that passed."""
    count: Counter[tuple[str, str]] = Counter((check.what, check.status) for check in outcome.checks)
    kinds = list(dict.fromkeys([*_WHAT, *(check.what for check in outcome.checks)]))
    yield table(
        ["check", "?of", *(f">{status}" for status in _STATUSES)],
        (
            [kind, _WHAT.get(kind, ""), *(str(count[kind, status]) for status in _STATUSES)]
            for kind in kinds
            if any(count[kind, status] for status in _STATUSES)
        ),
    )
    yield from _outcomes(outcome, every=every)


def _outcomes(outcome: Verification, *, every: bool, but: tuple[str, ...] = ()) -> Iterator[Part]:
    for status in ("failed", "skipped", "ok") if every else ("failed", "skipped"):
        if every or status not in but:
            yield from _lines(status, [check for check in outcome.checks if check.status == status])
    yield heading("intact" if outcome.ok else "NOT intact", str(outcome.path))
    yield f"sha256 {outcome.sha256}"


def _lines(status: str, checks: list[Check]) -> Iterator[Part]:
    if checks:
        yield heading(status)
        yield from ("  ".join(["", c.what, c.where, *in_options(c.detail, OPTIONS).splitlines()]) for c in checks)
