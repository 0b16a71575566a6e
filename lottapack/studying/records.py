"""The finished runs of a study, in memory and in a JSON Lines file that a study continues from."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lottapack.errors import CheckpointError, OutputError
from lottapack.files.output import atomic_file
from lottapack.studying.search import Trial

FORMAT = "lottapack-study-1"


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run. ``trained``: elements that trained, of ``total``; ``seconds``: how long `train` took."""

    side: str
    rank: int | None
    seed: int
    score: float
    trained: int
    total: int
    seconds: float

    @property
    def trial(self) -> Trial:
        """What ran."""
        return Trial(self.side, self.rank, self.seed)


class Records:
    """Runs by trial. ``description``: what makes scores of two studies comparable."""

    def __init__(self, path: Path | None, description: dict[str, Any]) -> None:
        self._path = path
        self.runs: dict[Trial, Run] = {}
        if path is not None:
            self._open(path, description)

    def __contains__(self, trial: object) -> bool:
        return trial in self.runs

    def scores(self) -> dict[Trial, float]:
        """Return the score of each finished run."""
        return {trial: run.score for trial, run in self.runs.items()}

    def add(self, run: Run) -> None:
        """Keep a finished run."""
        self.runs[run.trial] = run
        if self._path is not None:
            _append(self._path, asdict(run))

    def _open(self, path: Path, description: dict[str, Any]) -> None:
        if path.exists() and not path.is_file():
            raise _not_ours(path, "is not a regular file")  # reading a pipe may never end
        try:
            text = path.read_text("utf-8") if path.exists() else ""
        except (OSError, UnicodeDecodeError) as fault:
            raise _not_ours(path, "cannot be read as text") from fault
        # A killed process may leave half a line at the end.
        lines = text.splitlines() if text.endswith("\n") or not text else text.splitlines()[:-1]
        if not lines:
            if text:
                raise _not_ours(path, "is not a record of a study")
            _append(path, {"format": FORMAT, **description})
            return
        try:
            head, *rest = map(json.loads, lines)
            if head.pop("format", None) != FORMAT:
                raise _not_ours(path, "is not a record of a study")
            self.runs = {run.trial: run for run in (Run(**record) for record in rest)}
        except (ValueError, TypeError, AttributeError) as fault:
            raise _not_ours(path, "is not a record of a study") from fault
        wrong = [name for name in sorted({*head, *description}) if head.get(name) != description.get(name)]
        if wrong:
            raise _not_ours(path, f"belongs to another study: {wrong[0]} is {head.get(wrong[0])!r} there, "
                                  f"{description.get(wrong[0])!r} here")  # fmt: skip
        if not text.endswith("\n"):
            with atomic_file(path) as file:
                file.write("".join(f"{line}\n" for line in lines).encode())


def _append(path: Path, record: dict[str, Any]) -> None:
    """Add a line; one that the disk holds in part only is taken away again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            line = memoryview(json.dumps(record, allow_nan=False).encode() + b"\n")
            try:
                while line:
                    line = line[file.write(line) :]
            except OSError:
                file.truncate(size)
                raise
    except OSError as fault:
        why = f"{path}: cannot write the record ({fault.strerror})"
        raise OutputError(why, hint="Pass another `record`.") from fault


def _not_ours(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path} {why}", hint="Pass another `record`, or delete the file to begin anew.")
