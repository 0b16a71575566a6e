"""Compare virtual and materialised backbones: products, tokens of a Llama, and a training step.

All compared figures come from one run. Products alternate; the Llamas run one after the other in their own processes,
so that their memory can be told apart.

``python benchmarks/bench_virtual.py [--scale 300M] [--rounds N] [--pack FILE] [--json]``
``python benchmarks/bench_virtual.py --large [--json]``

``--large`` runs the 8B shape of examples/generate.py instead, virtual only: a model that needs much more memory than
the libraries do. It takes 5 GB of memory, 4.3 GB of disk (TMPDIR) and a minute or two. ``make bench`` leaves it out.
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

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from generate import DTYPES, PROMPT, WAYS, difference, measured, packed, resident, show, warm_up

GOALS = {
    "of_bfloat16": 1.5,
    "of_float32": 4.0,
    "tokens": 1.5,
    "peak": 1.2,
    "whole": 1.2,
    "training": 0.4,
    "training_time": 1.0,
}
LARGE = "8B"
BATCH, LENGTH, STEPS = 1, 128, 4
TIMEOUT = 600


def train(path: Path, way: str) -> None:
    """Run training steps; print the median seconds after the first, and the peak above the libraries' memory."""
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401

    import lottapack

    warm_up()
    before = resident("VmRSS")
    model = lottapack.load(path, backbone=way).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, fused=True)
    tokens = torch.tensor((PROMPT * LENGTH)[: BATCH * LENGTH]).view(BATCH, LENGTH)
    seconds = []
    for _ in range(STEPS):
        begin = time.perf_counter()
        model(tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - begin)
    print(json.dumps({"way": way, "seconds": statistics.median(seconds[1:]), "peak_bytes": resident("VmHWM") - before}))


RETURNED = {"MALLOC_MMAP_THRESHOLD_": "100000", "MALLOC_TRIM_THRESHOLD_": "100000"}
"""With these, glibc gives memory back when it is freed; otherwise some of a peak lies free between tensors."""


def trained(path: Path, way: str, malloc: dict[str, str]) -> dict[str, float]:
    """Run train() in a new process."""
    command = [sys.executable, __file__, "--child", str(path), way]
    given = {"env": os.environ | malloc, "check": True, "capture_output": True, "text": True, "timeout": TIMEOUT}
    out = subprocess.run(command, **given).stdout
    return dict(json.loads(out.splitlines()[-1]))


def measure(scale: str, rounds: int, pack: Path | None) -> dict[str, object]:
    """Everything."""
    from lottapack.reports.speed_virtual import bench_virtual

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = packed(scale, folder)[0] if pack is None else pack
        products = bench_virtual(inputs=(1, 8, 128))
        writing = [[measured(path, way, 24, folder) for way in WAYS] for _ in range(rounds)]
        training = [[trained(path, way, {}) for way in WAYS] for _ in range(rounds)]
        returned = [trained(path, way, RETURNED) for way in WAYS]
    speeds = {
        f"{p.case}, {p.inputs}": {
            "weights_per_s": p.weights_per_s,
            "of_float32": p.of_float32,
            "of_bfloat16": p.of_bfloat16,
        }
        for p in products.products
    }
    return {
        "machine": products.machine,
        "products": speeds,
        "writing": writing,
        "training": training,
        "training_with_memory_returned": returned,
        "tokens_ratio": statistics.median(one["tokens_per_s"] / two["tokens_per_s"] for one, two in writing),
        "peak_ratio": max(one["peak_bytes"] / (one["model_bytes"] + one["activation_bytes"]) for one, _ in writing),
        "whole_ratio": max(one["whole_ratio"] for one, _ in writing),
        "training_time_ratio": statistics.median(one["seconds"] / two["seconds"] for one, two in training),
        "training_ratio": max(one["peak_bytes"] / two["peak_bytes"] for one, two in training),
        "training_ratio_with_memory_returned": returned[0]["peak_bytes"] / returned[1]["peak_bytes"],
    }


def measure_large() -> dict[str, object]:
    """Run the large shape, virtual, in each dtype; compare logits with float32. Raises LimitError."""
    from lottapack.errors import LimitError

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, took = packed(LARGE, folder)
        rows = [] if "refused" in took else [measured(path, "virtual", 24, folder, dtype) for dtype in DTYPES]
        refused = [str(one["refused"]) for one in (took, *rows) if "refused" in one]
        if refused:
            raise LimitError(refused[0])
        wide, narrow = (("virtual", dtype) for dtype in DTYPES)
        return {"scale": LARGE, "packing": took, "rows": rows, "bfloat16_difference": difference(folder, narrow, wide)}


def show_large(found: dict[str, object]) -> None:
    """Print the result of measure_large()."""
    show({**found, "largest_difference": None})
    first = found["rows"][0]
    whole = f"peak of the whole process / (adapters + stored + activations) {first['whole_ratio']:.2f}"
    print(
        f"  {whole} (goal: at most {GOALS['whole']}), weights of the backbone {first['backbone_bytes']} bytes (goal: 0)"
    )
    print(f"  logits in bfloat16 differ from float32's by {found['bfloat16_difference']:.1e} of the largest at most")


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="300M", choices=("3M", "30M", "300M", "600M", "900M"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pack", type=Path, help="One that packed() wrote, to save its time.")
    parser.add_argument("--large", action="store_true", help=f"Measure the {LARGE} shape instead.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("PACK", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        train(Path(options.child[0]), options.child[1])
        return
    found = measure_large() if options.large else measure(options.scale, options.rounds, options.pack)
    if options.json:
        print(json.dumps(found))
        return
    if options.large:
        show_large(found)
        return
    print(found["machine"])
    for name, speed in found["products"].items():
        rate = speed["weights_per_s"] / 1e9
        print(f"  {name:<16}{rate:7.1f} 10^9 weights/s {speed['of_float32']:7.2f} {speed['of_bfloat16']:7.2f}")
    print(f"  (float32 and bfloat16 in memory; goals of virtual, 1: {GOALS['of_float32']} and {GOALS['of_bfloat16']})")
    for one, two in found["writing"]:
        print(
            f"  tokens/s {one['tokens_per_s']:.2f} and {two['tokens_per_s']:.2f}, weights of the backbone "
            f"{one['backbone_bytes']:,} and {two['backbone_bytes']:,} (goal: 0), model {one['model_bytes']:,}, "
            f"activations {one['activation_bytes']:,}, peak {one['peak_bytes']:,} and {two['peak_bytes']:,}, "
            f"libraries {one['libraries_bytes']:,}"
        )
    print(f"  tokens, virtual to materialised {found['tokens_ratio']:.2f} (goal: {GOALS['tokens']})")
    print(f"  peak to model and activations {found['peak_ratio']:.2f} (goal: at most {GOALS['peak']})")
    whole = f"peak of the whole process / (adapters + stored + activations) {found['whole_ratio']:.2f}"
    print(f"  {whole} (goal: at most {GOALS['whole']}, where the model outweighs the libraries: --large)")
    for steps in found["training"]:
        print(f"  training step {step(steps)}")
    time_ratio = found["training_time_ratio"]
    print(f"  its time, virtual to materialised {time_ratio:.2f} (goal: at most {GOALS['training_time']})")
    print(f"  its peak, virtual to materialised {found['training_ratio']:.2f} (goal: at most {GOALS['training']})")
    print(f"  where malloc gives memory back {step(found['training_with_memory_returned'])}")
    print(f"  its peak, virtual to materialised {found['training_ratio_with_memory_returned']:.2f}")


def step(ways: list[dict[str, float]]) -> str:
    """Return seconds and memory peaks of a training step, virtual and materialised."""
    one, two = ways
    return f"{one['seconds']:.2f} and {two['seconds']:.2f} s, peak {one['peak_bytes']:,} and {two['peak_bytes']:,}"


if __name__ == "__main__":
    main()
