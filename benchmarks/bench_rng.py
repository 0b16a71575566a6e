"""How fast weights are generated on the CPU, beside ``fill_`` and ``torch.randn``.

    python benchmarks/bench_rng.py [--elements N] [--rounds N] [--json]

Every case writes the same number of elements of the same buffer. The rounds are interleaved, so that a busy spell of
the machine hits all cases alike, and the median of the rounds counts.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table as Grid

from lottapack.rng import Source, binary32, builtin, fill_, torch_ops

ELEMENTS = 1 << 26
ROUNDS = 11

GOALS = {"normal16 float32": "0.33; 8", "uniform16 float32": "0.50"}
"""The least ratios to reach: to fill_, to randn."""

TORCH_OPS_SHARE = 16
"""The plain torch operations fill one part in so many, or they would take most of the time."""

Cases = dict[str, tuple[int, Callable[[], object]]]


def cases(elements: int) -> Cases:
    """By name: how many elements it writes, and what writes them."""
    buffer = torch.ones(elements)
    small = buffer[: elements // TORCH_OPS_SHARE]

    def rng(distribution: str, dtype: str) -> tuple[int, Callable[[], object]]:
        kind = getattr(torch, dtype)
        target = buffer if dtype == "float32" else buffer.view(kind)[:elements]
        return elements, lambda: fill_(target, source(distribution, dtype))

    return {
        "fill_": (elements, lambda: buffer.fill_(0.5)),
        "torch.randn": (elements, lambda: torch.randn(elements, out=buffer)),
        "normal16 float32": rng("normal16", "float32"),
        "uniform16 float32": rng("uniform16", "float32"),
        "sign1 float32": rng("sign1", "float32"),
        "normal16 bfloat16": rng("normal16", "bfloat16"),
        "normal16 float16": rng("normal16", "float16"),
        "normal16 float32, torch operations": (
            small.numel(),
            lambda: torch_ops.fill(small, source("normal16", "float32"), 0),
        ),
    }


def source(distribution: str, dtype: str) -> Source:
    return Source(42, "benchmark", builtin(distribution), binary32(0.05), dtype)


def measure(todo: Cases, rounds: int) -> dict[str, list[float]]:
    """Billions of elements a second in each round, in which the cases take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in todo}
    for _, run in todo.values():
        run()  # compile, check the known answers, touch the pages
    for _ in range(rounds):
        for name, (_, run) in todo.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return {name: [todo[name][0] / each / 1e9 for each in seconds[name]] for name in todo}


def ratio(speeds: list[float], other: list[float]) -> float:
    """The median of the ratios round by round: a drift of the machine meets both sides of each."""
    return statistics.median(one / two for one, two in zip(speeds, other, strict=True))


def machine() -> str:
    """One line: processor, threads, versions."""
    info = Path("/proc/cpuinfo")
    names = [x for x in info.read_text().splitlines() if x.startswith("model name")] if info.exists() else []
    cpu = names[0].partition(": ")[2] if names else platform.processor() or platform.machine()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{cpu}, {torch.get_num_threads()} threads, {capability}, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=ELEMENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()

    speeds = measure(cases(asked.elements), asked.rounds)
    rows: list[dict[str, Any]] = [
        {
            "case": name,
            "gigaweights_per_s": statistics.median(each),
            "of_fill_": ratio(each, speeds["fill_"]),
            "of_randn": ratio(each, speeds["torch.randn"]),
            "goal": GOALS.get(name, ""),
        }
        for name, each in speeds.items()
    ]
    if asked.json:
        print(json.dumps({"machine": machine(), "elements": asked.elements, "rounds": asked.rounds, "rows": rows}))
        return
    grid = Grid(title=f"{asked.elements:,} elements, median of {asked.rounds} rounds", caption=machine())
    grid.add_column("case")
    for column in ("10⁹ weights/s", "of fill_", "of randn", "goal"):
        grid.add_column(column, justify="right")
    for row in rows:
        numbers = row["gigaweights_per_s"], row["of_fill_"], row["of_randn"]
        grid.add_row(row["case"], *(f"{number:.2f}" for number in numbers), row["goal"])
    Console().print(grid)


if __name__ == "__main__":
    main()
