"""Time the first weight of a process, in seconds beyond importing torch.

``python benchmarks/bench_start.py [--rounds N] [--json]``

Each round is its own process. The first finds an empty cache; the others use what it compiled and skip numba.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile

CHILD = """
import json, sys, time
import torch
start = time.perf_counter()
import lottapack
from lottapack.rng.kernels import object_files
object_files.cache_from_source = lambda _: sys.argv[1] + "/_"  # a prefix for all of Python's would compile numba's too
lottapack.draw("a", (1000,), seed=1, scale=0.02)
print(json.dumps({"seconds": time.perf_counter() - start, "numba": "numba" in sys.modules}))
"""
GOAL = 0.3


def child(folder: str) -> dict[str, float]:
    """Run one process, which keeps compiled kernels in a folder."""
    line = [sys.executable, "-c", CHILD, folder]
    done = subprocess.run(line, check=True, capture_output=True, text=True, timeout=300)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measured(rounds: int) -> dict[str, float]:
    """Return the time of the first process and the median of the others."""
    with tempfile.TemporaryDirectory() as folder:
        first = child(folder)
        later = [child(folder) for _ in range(rounds)]
    if not first["numba"] or any(one["numba"] for one in later):
        raise SystemExit("the first process did not compile, or a later one did")
    return {"first_process_s": first["seconds"], "first_weight_s": statistics.median(one["seconds"] for one in later)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    result = measured(asked.rounds)
    if asked.json:
        print(json.dumps(result))
        return
    print("first weight of a process, beyond importing torch:")
    print(
        f"  {result['first_weight_s']:.3f} s (goal: at most {GOAL}); of the first, which compiles, "
        f"{result['first_process_s']:.1f} s"
    )


if __name__ == "__main__":
    main()
