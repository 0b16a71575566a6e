"""Measure time and peak memory of packing and rebuilding the paper's largest Llama (1.2 billion parameters) on the CPU.

python benchmarks/bench_large.py [SCALE]      each step in a process of its own; 12 GB of memory should be free
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

STATE = """
import torch
from lottapack.reports.llamas import LLAMAS, trained_state
torch.save(trained_state(LLAMAS[{scale!r}]), {checkpoint!r})
"""
PACK = """
import lottapack
size = lottapack.pack({checkpoint!r}, {pack!r}, compression=lottapack.Compression("float16", {coding!r})).size
"""
LOAD = """
import torch, lottapack
model = lottapack.load({pack!r}, dtype={dtype})
size = sum(t.numel() * t.element_size() for t in {{t.data_ptr(): t for t in model.state_dict().values()}}.values())
size += sum(t.numel() * t.element_size() for t in model.buffers())
"""
VERIFY = """
import lottapack
assert lottapack.verify({pack!r}).ok
size = 0
"""
MEASURED = """
import json, resource, time
import torch, transformers, lottapack, lottapack.packing.pack, lottapack.loading.load, lottapack.rng.cpu
from transformers.models.llama import modeling_llama
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begun, used = time.perf_counter(), time.process_time()
{code}
seconds, cpu = time.perf_counter() - begun, time.process_time() - used
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({{"seconds": seconds, "cpu": cpu, "size": size, "peak": peak * 1024, "imports": before * 1024}}))
"""


def run(code: str) -> dict[str, float]:
    """Run a step in a new process and return what it measured."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED.format(code=code)], capture_output=True, text=True, check=True, timeout=900
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print."""
    scale = sys.argv[1] if len(sys.argv) > 1 else "900M"
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(Path(folder) / "checkpoint.pt")
        subprocess.run(
            [sys.executable, "-c", STATE.format(scale=scale, checkpoint=checkpoint)], check=True, timeout=900
        )
        print(f"Llama {scale}; a process that imported everything and did nothing takes the memory in brackets")
        for name, coding in (
            ("fp16", None),
            ("8-bit", "int8-block64"),
            ("4-bit", "normal4-block64"),
            ("zlib", "planes-zlib"),
        ):
            pack = str(Path(folder) / f"{name}.lotta.safetensors")
            show(f"pack, {name}", run(PACK.format(checkpoint=checkpoint, pack=pack, coding=coding)))
            for dtype in ("None", "torch.bfloat16") if name == "fp16" else ("None",):
                label = "float32" if dtype == "None" else "bfloat16"
                show(f"load, {name}, into {label}", run(LOAD.format(pack=pack, dtype=dtype)))
        show("verify, fp16", run(VERIFY.format(pack=str(Path(folder) / "fp16.lotta.safetensors"))))


def show(what: str, found: dict[str, float]) -> None:
    """Format one line of figures."""
    size = f"{found['size'] / 1e6:9,.1f} MB" if found["size"] else " " * 12
    memory = f"peak {found['peak'] / 1e9:.2f} GB ({found['imports'] / 1e9:.2f})"
    print(f"{what:28} {found['seconds']:7.2f} s, CPU {found['cpu']:6.2f} s  {size}  {memory}", flush=True)


if __name__ == "__main__":
    main()
