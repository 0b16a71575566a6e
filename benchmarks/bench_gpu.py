"""Measure the GPU figures that have goals: ``normal16`` beside a plain fill and torch.randn, and a one-token product.

``python benchmarks/bench_gpu.py [--device cuda] [--rounds N] [--json]``

Without such a device it says so and measures nothing.
"""

import argparse
import json

from lottapack.device import resolve
from lottapack.errors import UnsupportedError
from lottapack.reports.speed import bench
from lottapack.reports.speed_virtual import bench_virtual

DTYPES = ("float32", "bfloat16")
GOALS = {"of_fill": 0.5, "of_randn": 1.0, "of_bfloat16": 1.0}


def measured(device: str, rounds: int) -> dict[str, object]:
    """Return the ratios that have goals: fills by dtype, and the product of one vector."""
    report = bench(device=device, rounds=rounds)
    rows = [one for one in report.speeds if one.case == "normal16" and one.dtype in DTYPES]
    products = bench_virtual(device=device, inputs=(1,), rounds=rounds).products
    virtual = next(one for one in products if one.case == "virtual")
    return {
        "machine": report.machine,
        "normal16": {
            one.dtype: {"weights_per_s": one.weights_per_s, "of_fill": one.of_fill, "of_randn": one.of_randn}
            for one in rows
        },
        "virtual": {"weights_per_s": virtual.weights_per_s, "of_bfloat16": virtual.of_bfloat16},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    try:
        resolve(asked.device)
    except UnsupportedError as fault:
        said = f"no goal of a GPU was measured: {fault.message}"
        print(json.dumps({"missing": said}) if asked.json else said)
        return
    found = measured(asked.device, asked.rounds)
    if asked.json:
        print(json.dumps(found))
        return
    print(found["machine"])
    for dtype, row in found["normal16"].items():
        print(
            f"  normal16 {dtype:<9}{row['weights_per_s'] / 1e9:8.1f} 10^9 weights/s, {row['of_fill']:.2f} of fill_ "
            f"(goal: {GOALS['of_fill']}), {row['of_randn']:.2f} of torch.randn (goal: over {GOALS['of_randn']:.0f})"
        )
    row = found["virtual"]
    print(
        f"  virtual, 1 vector {row['weights_per_s'] / 1e9:8.1f} 10^9 weights/s, {row['of_bfloat16']:.2f} of bfloat16 "
        f"in memory (goal: over {GOALS['of_bfloat16']:.0f})"
    )


if __name__ == "__main__":
    main()
