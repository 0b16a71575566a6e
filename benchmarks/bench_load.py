"""Compare load() of a 300M-parameter Llama with cloning the same full checkpoint from the page cache.

Each measurement is one call in its own process, as a user would make it: libraries are imported, kernels compiled, and
the memory is new to the process. The two alternate in both orders, so that a drift of the machine affects both.

Before the clock starts, each process allocates 2 GB and frees them, so that the machine holds the memory. On a virtual
machine the first touch of a page that the host has reclaimed costs up to fifty times the kernel's own page fault, which
would hide both figures. One run does this with huge pages, which then cost what they cost on a physical machine. The
other uses small pages; load() then measures that huge ones are slow on such a virtual machine and avoids them.

The floor of a load is what none can do without, each part by itself on all threads: new pages for the model, its
generated weights written to pages that are there, and the stored tensors read and hashed.

``python benchmarks/bench_load.py [--rounds N] [--json]``
"""

import argparse
import json
import math
import mmap
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

SCALE = "300M"
PAGES = ("huge", "small")


def make(folder: Path) -> tuple[Path, Path]:
    """Write the pack and the full checkpoint."""
    from llama import scaffolded

    import lottapack

    pack, full = folder / "llama.lotta.safetensors", folder / "full"
    lottapack.pack(scaffolded(SCALE), pack)
    return pack, lottapack.export(pack, full, format="transformers")


def peak_bytes() -> int:
    """Return the process's peak resident size. (On Linux getrusage would include the parent's, from before exec.)"""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak() -> None:
    """Reset the peak (Linux only; elsewhere the peak includes what came before)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def own_memory(pages: str) -> None:
    """Make the host give this machine 2 GB, then free them to the kernel."""
    memory = mmap.mmap(-1, 1 << 31, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if pages == "huge" and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    for at in range(0, len(memory), mmap.PAGESIZE):
        memory[at] = 1
    memory.close()


def floor(path: Path, pages: str) -> dict[str, float]:
    """Time the parts of the floor."""
    import torch

    from lottapack import rng
    from lottapack.format.descriptor import Adapted, Seeded
    from lottapack.format.packfile import open_pack
    from lottapack.rng.huge_pages import HugePages
    from lottapack.rng.threads import default, run_all

    with open_pack(path) as pack:
        entries = pack.descriptor.parameters.items()
        drawn = [
            (pack.source(name), math.prod(entry.shape))
            for name, entry in entries
            if isinstance(entry, Seeded | Adapted)
        ]
        stored = sum(info.nbytes for info in pack.tensors.values())
        size = sum(count for _, count in drawn)
        begin = time.perf_counter()
        memory = torch.empty(size + stored // 4)
        if pages == "huge":
            HugePages(small_s=1).take(memory)  # however slow
        memory[:: mmap.PAGESIZE // 4].fill_(0)
        faulted, at = time.perf_counter(), 0
        for source, count in drawn:
            rng.fill_(memory[at : at + count], source)
            at += count
        filled = time.perf_counter()
        run_all([partial(pack.read, info) for info in pack.tensors.values()], default())
        return {"pages": faulted - begin, "weights": filled - faulted, "stored": time.perf_counter() - filled}


def child(what: str, path: Path, pages: str) -> None:
    """Time one load or clone, or the floor; print seconds, peak bytes above the start, and the model's bytes."""
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
    own_memory(pages)
    if what == "floor":
        print(json.dumps(floor(path, pages)))
        return
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
    """Return the medians of alternating child processes."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        pack, full = make(Path(folder))
        turns = [("load", pack), ("clone", full), ("floor", pack)]
        for turn in range(rounds):
            for pages in PAGES:
                for what, path in turns if turn % 2 == 0 else reversed(turns):
                    command = [sys.executable, __file__, "--child", what, str(path), pages]
                    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                    found.setdefault((what, pages), []).append(json.loads(out.splitlines()[-1]))
        result: dict[str, float] = {"pack_bytes": pack.stat().st_size, "full_bytes": full.stat().st_size}
    for pages, end in zip(PAGES, ("", "_small_pages"), strict=True):
        load, clone = found["load", pages], found["clone", pages]
        result[f"load{end}_s"] = statistics.median(item["seconds"] for item in load)
        result[f"clone{end}_s"] = statistics.median(item["seconds"] for item in clone)
        pairs = [a["seconds"] / b["seconds"] for a, b in zip(load, clone, strict=True)]
        result[f"load_to_clone{end}"] = statistics.median(pairs)
        for part in ("pages", "weights", "stored"):
            result[f"floor_{part}{end}_s"] = statistics.median(item[part] for item in found["floor", pages])
    result["load_peak"] = max(item["peak"] / item["bytes"] for pages in PAGES for item in found["load", pages])
    return result


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=3, metavar=("WHAT", "PATH", "PAGES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], Path(options.child[1]), options.child[2])
        return
    result = measure(options.rounds)
    if options.json:
        print(json.dumps(result))
        return
    pack, full = result["pack_bytes"] / 1e6, result["full_bytes"] / 1e6
    print(f"Llama {SCALE}: pack {pack:.1f} MB, full checkpoint {full:.1f} MB")
    print(f"  load            {result['load_s']:.3f} s   {result['load_small_pages_s']:.3f} s where huge ones are dear")
    print(f"  clone           {result['clone_s']:.3f} s   {result['clone_small_pages_s']:.3f} s")
    print(f"  load / clone    {result['load_to_clone']:.2f}      {result['load_to_clone_small_pages']:.2f}")
    for end, where in (("", "huge pages"), ("_small_pages", "small ones")):
        parts = {part: result[f"floor_{part}{end}_s"] for part in ("pages", "weights", "stored")}
        listed = ", ".join(f"{part} {seconds:.3f}" for part, seconds in parts.items())
        print(f"  floor           {sum(parts.values()):.3f} s   with {where}: {listed}")
    print("  (goal: at most 1.2 times the clone)")
    print(f"  peak / model    {result['load_peak']:.2f}   (goal: at most 1.1)")


if __name__ == "__main__":
    main()
