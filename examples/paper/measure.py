"""The paper's findings, measured: random backbones with adapters beside full training, both tuned alike, with seeds.

    python examples/paper/measure.py --quick     # the README's table, in minutes
    python examples/paper/measure.py             # everything, in hours; killed, it continues where it stopped
    python examples/paper/measure.py mnist text  # some sections
    python examples/paper/measure.py --tables --file benchmarks/measured.jsonl
    python examples/paper/measure.py --write README.md docs/ranks.md benchmarks/RESULTS.md

Each run is a line of FILE, and a run that has its line is not repeated. ``--tables`` prints what is measured so far and
trains nothing. ``--write`` puts tables from benchmarks/measured.jsonl below their marks in Markdown. Needs `make test`
once, or torch, transformers, scikit-learn, networkx and npm.
"""

import argparse
import json
import math
import multiprocessing
import re
import statistics
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from measure_plans import QUICK, SECTIONS, Best, Row

HELD_OUT = {"digits": (360, 360), "mnist": (1000, 1500), "text": (32, 128), "karate": (8, 18), "cartpole": (100, 100)}
"""How much of what is not trained on tunes, and how much tests."""
ROOT = Path(__file__).parents[2]
BUILD, MEASURED = ROOT / "build", ROOT / "benchmarks" / "measured.jsonl"
MARK = re.compile(r"(<!-- measure\.py (\S+) -->\n\n).*?(?=\n\n|\n*\Z)", re.DOTALL)
"""The place of a table: a section's name, or --quick."""
sys.path.insert(0, str(Path(__file__).parents[1]))  # for examples/initialisations.py


class Log:
    """Runs that were done, in a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, dict[str, Any]] = {}
        text = path.read_text("utf-8") if path.exists() else ""
        self.begin = "" if text.endswith("\n") or not text else "\n"
        for line in text.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # a line that a killed process did not finish
            self.found[_key(record["run"])] = record["found"]

    def get(self, run: dict[str, Any]) -> dict[str, Any] | None:
        """Return what was measured, or None."""
        return self.found.get(_key(run))

    def add(self, run: dict[str, Any], found: dict[str, Any]) -> None:
        """Keep what was measured."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(self.begin + json.dumps({"run": run, "found": found}) + "\n")
        self.begin = ""
        self.found[_key(run)] = found
        print(f"{json.dumps(run)}: {found['test']} ({found['seconds']:.0f} s)", file=sys.stderr, flush=True)


def _key(run: dict[str, Any]) -> str:
    return json.dumps(run, sort_keys=True)


SCORES = {"text": "nats a byte | bits a byte", "cartpole": "steps of 500"}
"""What a score is, where it is not a share of right answers."""


def perform(run: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train a model; return the run and its scores."""
    from measure_train import perform

    return run, perform(run)


def measure(rows: Iterable[Row | Best], log: Log, through: Callable[..., Iterable[Any]] = map) -> None:
    """Train what rows still lack; ``through`` is map(), or that of a pool."""
    rows = list(rows)
    while missing := {_key(run): run for row in rows for run in wanted(row, log) if log.get(run) is None}:
        for run, found in through(perform, missing.values()):
            log.add(run, found)


def wanted(row: Row | Best, log: Log) -> list[dict[str, Any]]:
    """Return the runs of a row: all that choose, and with the best choice, if it is known, all seeds."""
    if isinstance(row, Best):
        tried = [run for one in row.tries for run in wanted(one, log)]
        chosen = decided(row, log)
        return tried if chosen is None else [*tried, *wanted(chosen, log)]
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


def decided(best: Best, log: Log) -> Row | None:
    """Return the try with the best mean score on the data to tune with; None if a run of it is missing."""
    means = []
    for tried in best.tries:
        found = [log.get(tried.run(tried.rates[0], seed)) for seed in range(tried.seeds)]
        if any(one is None for one in found):
            return None
        means.append(statistics.mean(one["tune"] for one in found if one is not None))
    return best.row(means.index(max(means)))


def line(row: Row | Best, log: Log) -> str | None:
    """Return a line of a table; None if nothing of it is measured."""
    if isinstance(row, Best):
        chosen = decided(row, log)
        return None if chosen is None else line(chosen, log)
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


def table(rows: Iterable[Row | Best], log: Log) -> str:
    """Return a Markdown table of what is measured."""
    rows = list(rows)
    task = next(row.task for row in rows if isinstance(row, Row))
    text = task == "text"
    columns = [
        SCORES.get(task, "right, %"),
        "with tuning data",
        "seeds",
        "rate",
        "trained",
        "file, bytes",
        "CPU, s",
        "beta",
    ]
    head = f"| | {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) + text)}"
    return "\n".join([head, *(one for row in rows if (one := line(row, log)) is not None)])


def short_table(rows: Iterable[Row | Best], log: Log) -> str:
    """Return the README's table."""
    lines = ["| | test accuracy | trained | file |", "|---|---:|---:|---:|"]
    for row in rows:
        cells = (line(row, log) or "").strip("| ").split(" | ")
        if len(cells) > 1:
            label, score, _, _, _, trained, size = cells[:7]
            mean, spread = score.split(" ± ")
            share = trained.partition("(")[2].rstrip(" %)")
            lines.append(
                f"| {label} | {float(mean):.1f} ± {float(spread):.1f} % | {float(share):.3g} % "
                f"| {int(size.replace(',', '')) / 1000:,.0f} kB |"
            )
    return "\n".join(lines)


def filled(text: str, log: Log) -> str:
    """Return Markdown with the tables below its marks as they are measured."""

    def put(mark: re.Match[str]) -> str:
        name = mark[2]
        return mark[1] + (short_table(QUICK, log) if name == "--quick" else table(SECTIONS[name], log))

    return MARK.sub(put, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"some of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="the README's table, with the rates that were found best")
    parser.add_argument("--tables", action="store_true", help="train nothing")
    parser.add_argument("--file", type=Path, help="where runs are kept (default build/measured.jsonl, quick.jsonl)")
    parser.add_argument("--write", type=Path, nargs="+", metavar="PAGE", help="rewrite the tables of Markdown files")
    parser.add_argument("--workers", type=int, default=2, help="processes, each of one thread (default 2)")
    options = parser.parse_args()
    for page in options.write or ():
        page.write_text(filled(page.read_text("utf-8"), Log(options.file or MEASURED)), "utf-8")
    if options.write:
        return
    if unknown := {*options.sections} - SECTIONS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(SECTIONS)}")
    log = Log(options.file or BUILD / ("quick.jsonl" if options.quick else "measured.jsonl"))
    chosen = {"README": QUICK} if options.quick else {name: SECTIONS[name] for name in options.sections or SECTIONS}
    with ExitStack() as stack:
        if not options.tables:
            todo = [run for rows in chosen.values() for row in rows for run in wanted(row, log) if log.get(run) is None]
            if any(run["task"] == "mnist" or run["side"] == "lora" for run in todo):
                from measure_data import mnist_archive

                mnist_archive()  # before several processes would fetch it
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(options.workers))
        for name, rows in chosen.items():
            if not options.tables:
                measure(rows, log, pool.imap_unordered)
            print(f"## {name}\n\n{(short_table if options.quick else table)(rows, log)}\n", flush=True)


if __name__ == "__main__":
    main()
