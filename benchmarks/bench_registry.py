"""Compare push and pull of a 100 MB pack over loopback with ``hf upload`` and ``hf download`` on the same server.

``python benchmarks/bench_registry.py [--megabytes N] [--rounds N] [--json]``

Each measurement is a command in its own process with an empty ``HF_HOME``, like a user's first one. The commands
alternate in both orders. For a second push and pull the server counts requests and bytes of bodies.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lottapack_serve import background
from lottapack_serve.traffic import Served

GOAL_PULL, GOAL_PUSH_AGAIN, GOAL_PULL_AGAIN = 1.3, 100_000, 1
"""Times the stock pull; bytes of a second push; requests of a second pull."""

LOTTAPACK = [sys.executable, "-m", "lottapack_cli"]
HF = [str(Path(sys.executable).with_name("hf"))]


def make(path: Path, size: int) -> None:
    """Write a pack of about that many bytes, nearly all of them a trained embedding."""
    import torch
    from torch import nn

    import lottapack

    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(size // 4096, 1024), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10))
    lottapack.pack(lottapack.scaffold(model, seed=42, rank=8), path)


def seconds(command: list[str], url: str, home: Path) -> float:
    """Return the wall time of a command that uses this server and cache."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment = {**plain, "HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start


def take_turns(
    commands: dict[str, list[str]], turn: int, url: str, folder: Path, found: dict[str, list[float]]
) -> None:
    """Time each command once with a new, empty cache; every second turn reverses the order."""
    for name, command in list(commands.items())[:: 1 if turn % 2 else -1]:
        with tempfile.TemporaryDirectory(dir=folder) as home:
            found.setdefault(name, []).append(seconds(command, url, Path(home)))


def measure(folder: Path, size: int, rounds: int) -> dict[str, float]:
    """Return medians in seconds, and the cost of a second push and pull."""
    pack = folder / "large.lotta.safetensors"
    make(pack, size)
    served: list[Served] = []
    found: dict[str, list[float]] = {}
    with background(folder / "registry", log=served.append) as server:
        # The first round warms caches and does not count. All pushes go first: any download right after a push
        # takes 0.2 s longer, while the machine still writes and reclaims memory.
        for turn in range(rounds + 1):
            pushes = {
                "lottapack push": [*LOTTAPACK, "push", str(pack), f"bench/ours{turn}", "--quiet"],
                "hf upload": [*HF, "upload", f"bench/theirs{turn}", str(pack)],
            }
            take_turns(pushes, turn, server.url, folder, found)
        pulls = {
            "lottapack pull": [*LOTTAPACK, "pull", "bench/ours0", "--quiet"],
            "hf download": [*HF, "download", "bench/theirs0", pack.name],
        }
        for turn in range(rounds + 1):
            take_turns(pulls, turn, server.url, folder, found)
        home = folder / "home"
        counts = {}
        for name, command in (("push", pushes["lottapack push"]), ("pull", pulls["lottapack pull"])):
            seconds(command, server.url, home)
            served.clear()
            seconds(command, server.url, home)
            counts[f"second {name}, requests"] = len(served)
            counts[f"second {name}, bytes sent"] = sum(one.received for one in served)
    medians = {name: statistics.median(times[1:]) for name, times in found.items()}
    pairs = zip(found["lottapack pull"][1:], found["hf download"][1:], strict=True)
    ratio = statistics.median(one / other for one, other in pairs)
    return {"pack_bytes": pack.stat().st_size, **medians, "pull ratio": ratio, **counts}


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options.megabytes * 10**6, options.rounds)
    if options.json:
        print(json.dumps(result))
        return
    print(f"A pack of {result['pack_bytes'] / 1e6:.1f} MB over loopback, median of {options.rounds} runs")
    for name in ("lottapack push", "hf upload", "lottapack pull", "hf download"):
        print(f"  {name:<16} {result[name]:.2f} s")
    print(f"  pull / download  {result['pull ratio']:.2f}   (goal: at most {GOAL_PULL}; the pull verifies)")
    sent, asked = result["second push, bytes sent"], result["second pull, requests"]
    print(f"  a second push sends {sent:,} bytes   (goal: under {GOAL_PUSH_AGAIN:,})")
    print(f"  a second pull makes {asked} request{'s' if asked != 1 else ''}   (goal: at most {GOAL_PULL_AGAIN})")


if __name__ == "__main__":
    main()
