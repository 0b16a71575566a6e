"""The paper's findings, measured: random backbones with adapters beside full training, both tuned alike, with seeds.

    python examples/paper/measure.py --quick     # the README's table, some minutes
    python examples/paper/measure.py             # everything, hours; killed, it continues where it stopped
    python examples/paper/measure.py mnist text  # some sections

Each run is a line of FILE (default ``build/measured.jsonl``), and a run that has its line is not repeated. ``--tables``
prints the tables of what is measured so far, without training.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from measure_plans import SECTIONS, Row

FILE = Path(__file__).parents[2] / "build" / "measured.jsonl"


class Log:
    """Runs that were done, in a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, dict[str, Any]] = {}
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # a line that a killed process did not finish
            self.found[_key(record["run"])] = record["found"]

    def get(self, run: dict[str, Any]) -> dict[str, Any] | None:
        """Return what was measured, or None."""
        return self.found.get(_key(run))

    def of(self, run: dict[str, Any]) -> dict[str, Any]:
        """Return what was measured; measure it if it is new."""
        if (known := self.get(run)) is not None:
            return known
        from measure_train import perform

        began = time.time()
        found = perform(run)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"run": run, "found": found}) + "\n")
        self.found[_key(run)] = found
        print(f"{json.dumps(run)}: {found['test']} ({time.time() - began:.0f} s)", file=sys.stderr, flush=True)
        return found


def _key(run: dict[str, Any]) -> str:
    return json.dumps(run, sort_keys=True)


def rate_of(row: Row, log: Log, *, measure: bool) -> float | None:
    """Return the rate with the best mean score on the data to tune with; None if a run of it is missing."""
    if len(row.rates) == 1:
        return row.rates[0]
    means = {}
    for rate in row.rates:
        runs = [row.run(rate, seed) for seed in range(row.tuning)]
        found = [log.of(run) if measure else log.get(run) for run in runs]
        if None in found:
            return None
        means[rate] = statistics.mean(one["tune"] for one in found if one is not None)
    return (min if row.task == "text" else max)(means, key=lambda rate: means[rate])


def measured(row: Row, log: Log, *, measure: bool = True) -> dict[str, Any] | None:
    """Return a line of a table; None if a run of it is missing."""
    rate = rate_of(row, log, measure=measure)
    if rate is None:
        return None
    runs = [row.run(rate, seed) for seed in range(row.seeds)]
    found = [one for run in runs if (one := log.of(run) if measure else log.get(run)) is not None]
    if not found:
        return None
    scores = [one["test"] for one in found]
    return {
        "label": row.label,
        "mean": statistics.mean(scores),
        "deviation": statistics.stdev(scores) if len(scores) > 1 else None,
        "seeds": len(scores),
        "rate": rate,
        "trained": found[0]["trained"],
        "percent": 100 * found[0]["trained"] / found[0]["total"],
        "bytes": found[0]["bytes"],
        "seconds": statistics.median(one["seconds"] for one in found),
        "betas": [beta for one in found for beta in one["betas"]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"some of {', '.join(SECTIONS)}")
    parser.add_argument("--file", type=Path, default=FILE, help="where runs are recorded")
    options = parser.parse_args()
    log = Log(options.file)
    for name in options.sections or SECTIONS:
        for row in SECTIONS[name]:
            print(name, json.dumps(measured(row, log)), flush=True)


if __name__ == "__main__":
    main()
