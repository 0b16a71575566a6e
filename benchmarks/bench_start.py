"""Time the first weight of a process, in seconds beyond importing torch.

``python benchmarks/bench_start.py [--rounds N] [--json]``

Each round is its own process. The first finds an empty cache; the others use what it compiled and skip numba.
Then again with the machine code that a wheel carries, if `make kernels` has compiled it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import lottapack

CHILD = """
import json, sys, time
import torch
start = time.perf_counter()
import lottapack
from lottapack.rng.kernels import object_files, shipped
if sys.argv[2] != "shipped":
    shipped.read = lambda *_: None
object_files.cache_from_source = lambda _: sys.argv[1] + "/_"  # a prefix for all of Python's would compile numba's too
lottapack.draw("a", (1000,), seed=1, scale=0.02)
print(json.dumps({"seconds": time.perf_counter() - start, "numba": "numba" in sys.modules}))
"""
GOAL, GOAL_SHIPPED = 0.3, 0.5
SHIPPED = Path(lottapack.__file__).parent / "rng" / "kernels" / "shipped"


def child(folder: str, kernels: str = "compiled") -> dict[str, float]:
    """Run one process, whose kernels are "compiled" and lie in a folder, or are "shipped"."""
    line = [sys.executable, "-c", CHILD, folder, kernels]
    done = subprocess.run(line, check=True, capture_output=True, text=True, timeout=300)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measured(rounds: int) -> dict[str, float]:
    """Return the time of the first process and the median of the others."""
    with tempfile.TemporaryDirectory() as folder:
        first = child(folder)
        later = [child(folder) for _ in range(rounds)]
    with tempfile.TemporaryDirectory() as folder:
        shipped = [child(folder, "shipped") for _ in range(rounds)] if (SHIPPED / "kernels.json").exists() else []
    if not first["numba"] or any(one["numba"] for one in (*later, *shipped)):
        raise SystemExit("the first process did not compile, or a later one did")
    result = {"first_process_s": first["seconds"], "first_weight_s": statistics.median(o["seconds"] for o in later)}
    if shipped:
        result["first_shipped_s"] = max(one["seconds"] for one in shipped)
    return result


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
    if "first_shipped_s" in result:
        print(f"  {result['first_shipped_s']:.3f} s at most, with a wheel's kernels (goal: at most {GOAL_SHIPPED})")


if __name__ == "__main__":
    main()
