"""The first weight of a second process, in seconds of the clock beyond importing torch and numba.

``python benchmarks/bench_start.py [--rounds N] [--json]``

A process of its own each round; the one before the first compiles the kernels and keeps them. numba imports much of
itself only when the first kernel is loaded: shown apart. It then looks for SciPy's BLAS too, and imports half of SciPy
where that is installed, as it is beside this project's tests but not by lottapack: with SciPy and without, in turns.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys

CHILD = """
import json, sys, time
if not {scipy}:
    sys.modules["scipy"] = None  # an import of it fails, as where it is not installed
import numba, torch
from numba.core.registry import cpu_target
start = time.perf_counter()
if {apart}:
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
numba_s = time.perf_counter() - start
import lottapack
lottapack.draw("a", (1000,), seed=1, scale=0.02)
print(json.dumps({{"numba_s": numba_s, "total_s": time.perf_counter() - start}}))
"""


def child(apart: bool, scipy: bool) -> dict[str, float]:
    code = CHILD.format(apart=apart, scipy=scipy)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measured(rounds: int) -> dict[str, float]:
    """Medians."""
    ways = {"": False, "_with_scipy": True} if importlib.util.find_spec("scipy") else {"": False}
    child(False, False)
    whole: dict[str, list[float]] = {end: [] for end in ways}
    apart: dict[str, list[float]] = {end: [] for end in ways}
    for _ in range(rounds):
        for end, scipy in ways.items():
            whole[end].append(child(False, scipy)["total_s"])
            apart[end].append(child(True, scipy)["numba_s"])
    first = {f"first_weight{end}_s": statistics.median(seconds) for end, seconds in whole.items()}
    return first | {f"of_which_numba{end}_s": statistics.median(seconds) for end, seconds in apart.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    result = measured(asked.rounds)
    if asked.json:
        print(json.dumps(result))
        return
    print("second process, beyond importing torch and numba:")
    for end, where in (("", ""), ("_with_scipy", ", where SciPy is installed")):
        if f"first_weight{end}_s" in result:
            own, numba = result[f"first_weight{end}_s"], result[f"of_which_numba{end}_s"]
            print(f"  first weight {own:.3f} s, of which numba's own {numba:.3f} s{where}")
    print("  (goal: at most 0.3)")


if __name__ == "__main__":
    main()
