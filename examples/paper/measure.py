"""The paper's findings, measured: random backbones with adapters beside full training, both tuned alike, with seeds.

    python examples/paper/measure.py --quick     # the README's table, in minutes
    python examples/paper/measure.py             # everything, in hours; killed, it continues where it stopped
    python examples/paper/measure.py mnist text  # some sections
    python examples/paper/measure.py --tables --file benchmarks/measured.jsonl

Each run is a line of FILE, and a run that has its line is not repeated. ``--tables`` prints what is measured so far and
trains nothing. benchmarks/measured.jsonl has the runs behind benchmarks/RESULTS.md. Needs `make test` once, or torch,
transformers, scikit-learn and npm.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from measure_plans import QUICK, SECTIONS, Row

HELD_OUT = {"digits": (360, 360), "mnist": (1000, 1500), "text": (32, 128)}
"""How much of what is not trained on tunes, and how much tests."""
BUILD = Path(__file__).parents[2] / "build"
sys.path.insert(0, str(Path(__file__).parents[1]))  # for examples/initialisations.py


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

        began = time.monotonic()
        found = perform(run)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"run": run, "found": found}) + "\n")
        self.found[_key(run)] = found
        print(f"{json.dumps(run)}: {found['test']} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
        return found


def _key(run: dict[str, Any]) -> str:
    return json.dumps(run, sort_keys=True)


def measure(row: Row, log: Log) -> None:
    """Train what the row still lacks."""
    while missing := [run for run in wanted(row, log) if log.get(run) is None]:
        log.of(missing[0])


def wanted(row: Row, log: Log) -> list[dict[str, Any]]:
    """Return the runs with each rate, and with the best rate if it is known all seeds."""
    tuning = [row.run(rate, seed) for rate in row.rates for seed in range(row.tuning)] if len(row.rates) > 1 else []
    best = best_rate(row, log)
    return tuning if best is None else [*tuning, *(row.run(best, seed) for seed in range(row.seeds))]


def best_rate(row: Row, log: Log) -> float | None:
    """Return the rate with the best mean score on the data to tune with; None if a run of it is missing."""
    if len(row.rates) == 1:
        return row.rates[0]
    means = {}
    for rate in row.rates:
        found = [log.get(row.run(rate, seed)) for seed in range(row.tuning)]
        if any(one is None for one in found):
            return None
        means[rate] = statistics.mean(one["tune"] for one in found if one is not None)
    return (min if row.task == "text" else max)(means, key=lambda rate: means[rate])


def line(row: Row, log: Log) -> str | None:
    """Return a line of a table; None if nothing of it is measured."""
    rate = best_rate(row, log)
    found = [] if rate is None else [one for seed in range(row.seeds) if (one := log.get(row.run(rate, seed)))]
    if not found:
        return None
    scores = [one["test"] for one in found]
    spread = f" ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
    score = f"{statistics.mean(scores):.2f}{spread}"
    if row.task == "text":
        spread = f" ± {statistics.stdev(scores):.3f}" if len(scores) > 1 else ""
        mean = statistics.mean(scores)
        score = f"{mean:.3f}{spread} | {mean / math.log(2):.3f}"
    both = [
        (one["tune"] * HELD_OUT[row.task][0] + one["test"] * HELD_OUT[row.task][1]) / sum(HELD_OUT[row.task])
        for one in found
    ]
    betas = [beta for one in found for beta in one["betas"]]
    cells = [
        row.label,
        score,
        f"{statistics.mean(both):.3f}" if row.task == "text" else f"{statistics.mean(both):.2f}",
        str(len(scores)),
        f"{rate:g}",
        f"{found[0]['trained']:,} ({100 * found[0]['trained'] / found[0]['total']:.2f} %)",
        f"{found[0]['bytes']:,}" if found[0]["bytes"] else "",
        f"{statistics.median(one['seconds'] for one in found):.1f}",
        f"{statistics.median(betas):.2f}" if betas else "",
    ]
    return f"| {' | '.join(cells)} |"


def table(rows: Iterable[Row], log: Log) -> str:
    """Return a Markdown table of what is measured."""
    rows = list(rows)
    text = rows[0].task == "text"
    score = "nats a byte | bits a byte" if text else "right, %"
    columns = [score, "with tuning data", "seeds", "rate", "trained", "file, bytes", "CPU, s", "beta"]
    head = f"| | {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) + text)}"
    return "\n".join([head, *(one for row in rows if (one := line(row, log)) is not None)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"some of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="the README's table, with the rates that were found best")
    parser.add_argument("--tables", action="store_true", help="train nothing")
    parser.add_argument("--file", type=Path, help="where runs are kept (default build/measured.jsonl, quick.jsonl)")
    options = parser.parse_args()
    if unknown := {*options.sections} - SECTIONS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(SECTIONS)}")
    log = Log(options.file or BUILD / ("quick.jsonl" if options.quick else "measured.jsonl"))
    chosen = {"README": QUICK} if options.quick else {name: SECTIONS[name] for name in options.sections or SECTIONS}
    for name, rows in chosen.items():
        for row in () if options.tables else rows:
            measure(row, log)
        print(f"## {name}\n\n{table(rows, log)}\n", flush=True)


if __name__ == "__main__":
    main()
