"""Time ``lottapack --help`` and ``lottapack inspect``, each run in its own process.

``python benchmarks/bench_cli.py [--rounds N] [--json]``
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOALS = {"--help": 0.25, "inspect": 0.4}
"""Seconds of a warm start."""


def small_pack(path: Path) -> None:
    """Write a pack of three linear layers."""
    from torch import nn

    import lottapack

    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    lottapack.pack(lottapack.scaffold(model, seed=42, rank=8), path)


def seconds(arguments: list[str]) -> float:
    """Return the wall time of one run of the command."""
    command = [sys.executable, "-m", "lottapack_cli", *arguments]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def measure(rounds: int) -> dict[str, float]:
    """Return medians over ``rounds`` alternating runs, after one warm-up."""
    with tempfile.TemporaryDirectory() as folder:
        pack = Path(folder) / "small.lotta.safetensors"
        small_pack(pack)
        commands = {"--help": ["--help"], "inspect": ["inspect", str(pack)]}
        found: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds + 1):
            for name, arguments in commands.items():
                found[name].append(seconds(arguments))
    return {name: statistics.median(times[1:]) for name, times in found.items()}


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.rounds)
    if options.json:
        print(json.dumps(result))
        return
    print(f"Command line, median of {options.rounds} runs")
    for name, value in result.items():
        print(f"  lottapack {name:<10} {value:.3f} s   (goal: at most {GOALS[name]} s)")


if __name__ == "__main__":
    main()
