"""load() of a 300M-parameter Llama beside cloning the same full checkpoint out of the page cache.

Each measurement is one call in a process of its own, as a user's would be: libraries imported and kernels compiled,
memory new to the process. They take turns, in both orders, so that a drift of the machine meets both. Before the clock
starts, each process takes 2 GB and gives them back: on a virtual machine the first touch of memory that the host has
taken away costs several times what the kernel's own page fault does, and would drown both figures.

``python benchmarks/bench_load.py [--rounds N] [--json]``
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

SCALE = "300M"


def make(folder: Path) -> tuple[Path, Path]:
    """The pack and the full checkpoint, as files."""
    from llama import scaffolded

    import lottapack

    pack, full = folder / "llama.lotta.safetensors", folder / "full"
    lottapack.pack(scaffolded(SCALE), pack)
    return pack, lottapack.export(pack, full, format="transformers")


def peak_bytes() -> int:
    """The process's largest resident size so far. (Linux: getrusage would count the parent's, from before exec.)"""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak() -> None:
    """Let the peak count from now on (Linux; elsewhere it counts what came before too, and errs upwards)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def child(what: str, path: Path) -> None:
    """Time one load or one clone and print seconds, peak bytes above the start, and the model's bytes."""
    import torch
    from safetensors.torch import load_file
    from transformers import LlamaConfig, LlamaForCausalLM

    import lottapack

    with tempfile.TemporaryDirectory() as folder:
        small = LlamaForCausalLM(LlamaConfig(hidden_size=64, num_hidden_layers=1, vocab_size=64, intermediate_size=64))
        lottapack.pack(lottapack.scaffold(small, seed=0, rank=2), Path(folder) / "warm.lotta.safetensors")
        lottapack.load(Path(folder) / "warm.lotta.safetensors")
    with path.open("rb") as file:  # into the page cache
        while file.read(1 << 20):
            pass
    torch.ones(1 << 29)  # from the host to this machine, and back to its kernel
    reset_peak()
    before = peak_bytes()
    start = time.perf_counter()
    if what == "load":
        model = lottapack.load(path)
        tensors = [*model.parameters(), *model.buffers()]
    else:
        tensors = [tensor.clone() for tensor in load_file(path).values()]
    seconds = time.perf_counter() - start
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    print(json.dumps({"seconds": seconds, "peak": peak_bytes() - before, "bytes": size, "torch": torch.__version__}))


def measure(rounds: int) -> dict[str, float]:
    """Medians of alternating child processes."""
    found: dict[str, list[dict[str, float]]] = {"load": [], "clone": []}
    with tempfile.TemporaryDirectory() as folder:
        pack, full = make(Path(folder))
        turns = [("load", pack), ("clone", full)]
        for turn in range(rounds):
            for what, path in turns if turn % 2 == 0 else reversed(turns):
                command = [sys.executable, __file__, "--child", what, str(path)]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found[what].append(json.loads(out.splitlines()[-1]))
        sizes = {"pack_bytes": pack.stat().st_size, "full_bytes": full.stat().st_size}
    load = statistics.median(item["seconds"] for item in found["load"])
    clone = statistics.median(item["seconds"] for item in found["clone"])
    pairs = [a["seconds"] / b["seconds"] for a, b in zip(found["load"], found["clone"], strict=True)]
    peak = max(item["peak"] / item["bytes"] for item in found["load"])
    return {**sizes, "load_s": load, "clone_s": clone, "load_to_clone": statistics.median(pairs), "load_peak": peak}


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("WHAT", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], Path(options.child[1]))
        return
    result = measure(options.rounds)
    if options.json:
        print(json.dumps(result))
        return
    pack, full = result["pack_bytes"] / 1e6, result["full_bytes"] / 1e6
    print(f"Llama {SCALE}: pack {pack:.1f} MB, full checkpoint {full:.1f} MB")
    print(f"  load            {result['load_s']:.3f} s")
    print(f"  clone           {result['clone_s']:.3f} s")
    print(f"  load / clone    {result['load_to_clone']:.2f}   (goal: at most 1)")
    print(f"  peak / model    {result['load_peak']:.2f}   (goal: at most 1.1)")


if __name__ == "__main__":
    main()
