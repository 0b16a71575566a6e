"""The first weight of a second process, in seconds of the clock beyond importing torch and numba.

``python benchmarks/bench_start.py [--rounds N] [--json]``

A process of its own each round; the one before the first compiles the kernels and keeps them. numba imports much of
itself only when the first kernel is loaded, and SciPy too if it is installed (numba looks for its BLAS): shown apart.
"""

import argparse
import json
import statistics
import subprocess
import sys

CHILD = """
import json, sys, time
import numba, torch
from numba.core.registry import cpu_target
start = time.perf_counter()
if {apart}:
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
numba_s = time.perf_counter() - start
import lottapack
lottapack.draw("a", (1000,), seed=1, scale=0.02)
print(json.dumps({{"numba_s": numba_s, "total_s": time.perf_counter() - start, "scipy": "scipy" in sys.modules}}))
"""


def child(apart: bool) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(apart=apart)], check=True, capture_output=True, text=True, timeout=300
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    child(False)
    whole = [child(False) for _ in range(asked.rounds)]
    apart = [child(True) for _ in range(asked.rounds)]
    result = {
        "first_weight_s": statistics.median(one["total_s"] for one in whole),
        "of_which_numba_s": statistics.median(one["numba_s"] for one in apart),
        "scipy_imported": whole[0]["scipy"],
    }
    if asked.json:
        print(json.dumps(result))
        return
    print("second process, beyond importing torch and numba:")
    print(f"  first weight         {result['first_weight_s']:.3f} s   (goal: at most 0.3)")
    print(f"  of which numba's own {result['of_which_numba_s']:.3f} s, SciPy imported: {result['scipy_imported']}")


if __name__ == "__main__":
    main()
