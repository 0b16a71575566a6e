"""Compare the CPU generator with ``fill_`` and ``torch.randn``, and fingerprints with the generator.

    python benchmarks/bench_rng.py [--elements N] [--rounds N] [--json]

Every case writes the same number of elements to the same buffer. The rounds are interleaved, so that a busy machine
slows all cases alike; the median counts. ``lottapack bench`` measures every distribution and dtype in the same way;
this script measures those that have goals.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table as Grid

from lottapack.reports.speed import Cases, machine, measure, ratio
from lottapack.rng import Source, binary32, builtin, fill_, fingerprint_of, torch_ops

ELEMENTS = 1 << 26
ROUNDS = 11

GOALS = {
    "normal16 float32": ("fill_", 0.6),
    "uniform16 float32": ("fill_", 0.8),
    "sign1 float32": ("fill_", 0.8),
    "normal16 bfloat16": ("normal16 float32", 1.2),
    "fingerprint of normal16 float32": ("normal16 float32", 1 / 1.5),
    "fingerprint of normal16 bfloat16": ("normal16 bfloat16", 1 / 1.5),
}
"""What a case is compared with, and the least ratio of their speeds."""

TORCH_OPS_SHARE = 16
"""The plain torch operations fill one part in so many, or they would take most of the time."""


def cases(elements: int) -> Cases:
    """Return by name the number of elements and the function that writes them."""
    buffer = torch.ones(elements)
    small = buffer[: elements // TORCH_OPS_SHARE]

    def rng(distribution: str, dtype: str) -> tuple[int, Callable[[], object]]:
        kind = getattr(torch, dtype)
        target = buffer if dtype == "float32" else buffer.view(kind)[:elements]
        return elements, lambda: fill_(target, source(distribution, dtype))

    def print_of(distribution: str, dtype: str) -> tuple[int, Callable[[], object]]:
        return elements, lambda: fingerprint_of(source(distribution, dtype), elements)

    generated = [("normal16", "float32"), ("uniform16", "float32"), ("sign1", "float32")]
    generated += [("normal16", "bfloat16"), ("normal16", "float16")]
    return {
        "fill_": (elements, lambda: buffer.fill_(0.5)),
        "torch.randn": (elements, lambda: torch.randn(elements, out=buffer)),
        **{f"{distribution} {dtype}": rng(distribution, dtype) for distribution, dtype in generated},
        "fingerprint of normal16 float32": print_of("normal16", "float32"),
        "fingerprint of normal16 bfloat16": print_of("normal16", "bfloat16"),
        "normal16 float32, torch operations": (
            small.numel(),
            lambda: torch_ops.fill(small, source("normal16", "float32"), 0),
        ),
    }


def source(distribution: str, dtype: str) -> Source:
    return Source(42, "benchmark", builtin(distribution), binary32(0.05), dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=ELEMENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()

    todo = cases(asked.elements)
    seconds = measure(todo, asked.rounds)
    each = {name: [one / todo[name][0] for one in found] for name, found in seconds.items()}
    rows: list[dict[str, Any]] = []
    for name, times in each.items():
        other, least = GOALS.get(name, ("", 0.0))
        reached = f"{ratio(times, each[other]):.2f} of {other} (goal {least:.2f})" if other else ""
        rows.append(
            {
                "case": name,
                "gigaweights_per_s": 1e-9 / statistics.median(times),
                "of_fill_": ratio(times, each["fill_"]),
                "of_randn": ratio(times, each["torch.randn"]),
                "goal": reached,
            }
        )
    line = machine(torch.device("cpu"))
    if asked.json:
        print(json.dumps({"machine": line, "elements": asked.elements, "rounds": asked.rounds, "rows": rows}))
        return
    grid = Grid(title=f"{asked.elements:,} elements, median of {asked.rounds} rounds", caption=line)
    grid.add_column("case")
    for column in ("10⁹ weights/s", "of fill_", "of randn"):
        grid.add_column(column, justify="right")
    grid.add_column("goal")
    for row in rows:
        numbers = row["gigaweights_per_s"], row["of_fill_"], row["of_randn"]
        grid.add_row(row["case"], *(f"{number:.2f}" for number in numbers), row["goal"])
    Console().print(grid)


if __name__ == "__main__":
    main()
