"""The parts of gpu_check.py that compute: ``python benchmarks/gpu_parts.py PART DEVICE [--quick]``.

Each compares a device with the CPU, prints one JSON object, and exits with 1 if a bit differs. A case that fails does
not stop the others.
"""

import argparse
import gc
import itertools
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_check import PACKS

import lottapack
from lottapack import rng
from lottapack.rng import backends
from lottapack.rng.stream import HADAMARD

DTYPES = ("float32", "bfloat16", "float16")


def machine(device: torch.device, _quick: bool) -> dict[str, Any]:
    """What the figures were taken on."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "lottapack": lottapack.__version__}
    if device.type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": str(torch.version.cuda)}
        import triton

        found["triton"] = triton.__version__
    return {**found, "backend": backends.select(device).name, "ok": True}


def fingerprints(device: torch.device, quick: bool) -> dict[str, Any]:
    """Every table in every dtype: fingerprints and bits, at the beginning and far into the stream."""
    count, wrong, cases = 5_000 if quick else 20_000_000, list[str](), 0
    for table, dtype in itertools.product(rng.BUILTIN, DTYPES):
        wrong += attempted(f"{table} {dtype}", partial(_of_table, device, table, dtype, count))
        cases += 4
    return {"cases": cases, "elements": count, "wrong": wrong, "ok": not wrong}


def _of_table(device: torch.device, table: str, dtype: str, count: int) -> list[str]:
    """What a device makes otherwise of one table in one dtype."""
    one = rng.Source(42, "gpu", rng.builtin(table), rng.binary32(0.02), dtype, (count // 1000, 1000))
    tensor = rng.fill_(torch.empty(count, dtype=getattr(torch, dtype), device=device), one)
    due = rng.fingerprint_of(one, count)
    answers = {"made": rng.fingerprints_on(device, [(one, count)])[0], "kept": rng.fingerprint(tensor)}
    wrong = [f"{what} {answer:016x}, not {due:016x}" for what, answer in answers.items() if answer != due]
    for start in (0, count - 3000 if table == HADAMARD else 2**35 - 1500):
        here = rng.fill_(torch.empty(3000, dtype=tensor.dtype, device=device), one, start)
        there = rng.fill_(torch.empty(3000, dtype=tensor.dtype), one, start)
        if not same(here, there):
            wrong.append(f"other bits from {start} on")
    return wrong


def merged(device: torch.device, quick: bool) -> dict[str, Any]:
    """The weights of packs that were made on a CPU, loaded whole and merged, in the dtypes of a load."""
    wrong, counts = list[str](), list[int]()

    def compared(pack: Path, merge: bool, dtype: torch.dtype | None) -> list[str]:
        here = lottapack.load(pack, device=device, merge=merge, dtype=dtype, check_fingerprints=True).state_dict()
        there = lottapack.load(pack, merge=merge, dtype=dtype).state_dict()
        counts.append(len(there))
        return [name for name in there if not same(here[name], there[name])]

    for pack in PACKS[: 1 if quick else None]:
        for merge, dtype in itertools.product((True, False), (None, torch.bfloat16)):
            wrong += attempted(f"{pack.name} {merge} {dtype}", partial(compared, pack, merge, dtype))
    return {"tensors": sum(counts), "wrong": wrong, "ok": not wrong and sum(counts) > 0}


def load(device: torch.device, quick: bool) -> dict[str, Any]:
    """A Llama to the device, beside reading its checkpoint from the local disk's cache; and the most memory it took."""
    from llama import scaffolded
    from safetensors.torch import load_file

    rounds = 1 if quick else 5
    with tempfile.TemporaryDirectory() as folder:
        pack, full = Path(folder) / "llama.lotta.safetensors", Path(folder) / "full"
        lottapack.pack(scaffolded("30M" if quick else "900M"), pack)
        checkpoint = lottapack.export(pack, full, format="transformers")
        ways: dict[str, Callable[[], Any]] = {
            "load": lambda: lottapack.load(pack, device=device),
            "checkpoint": lambda: load_file(checkpoint, device=str(device)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        peak = size = 0
        for turn, (name, way) in itertools.product(range(rounds + 1), ways.items()):
            gc.collect()
            if device.type == "cuda":
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            begin = time.perf_counter()
            held = way()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - begin)
            if name == "load":
                size = sum(tensor.numel() * tensor.element_size() for tensor in held.state_dict().values())
                if device.type == "cuda":
                    peak = max(peak, torch.cuda.max_memory_allocated() - before)
            del held
        due = ways["checkpoint"]()

        def compared() -> list[str]:
            merged = lottapack.load(pack, device=device, merge=True).state_dict()
            return [name for name, tensor in due.items() if name not in merged or not same(merged[name], tensor)]

        wrong = attempted("merged", compared)
        sizes = {"pack_bytes": pack.stat().st_size, "checkpoint_bytes": checkpoint.stat().st_size}
    medians = {f"{name}_s": statistics.median(times) for name, times in seconds.items()}
    return {**medians, **sizes, "load_peak": peak / max(size, 1), "rounds": rounds, "wrong": wrong, "ok": not wrong}


def attempted(case: str, work: Callable[[], list[str]]) -> list[str]:
    """Return what is wrong in a case, or why it failed; say at once how long it took, in case a later one hangs."""
    begin = time.perf_counter()
    try:
        wrong = work()
    except Exception as fault:  # noqa: BLE001
        wrong = [f"{type(fault).__name__}: {fault}"]
    print(f"{case}: {time.perf_counter() - begin:.2f} s, {len(wrong)} wrong", file=sys.stderr, flush=True)
    return [f"{case}: {one}" for one in wrong]


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors have the same bits."""
    one, other = (tensor.detach().cpu().contiguous() for tensor in (one, other))
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.view(-1).view(torch.uint8), other.view(-1).view(torch.uint8))


PARTS = {part.__name__: part for part in (machine, fingerprints, merged, load)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("device")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    found = PARTS[asked.part](torch.device(asked.device), asked.quick)
    print(json.dumps(found))
    sys.exit(not found["ok"])


if __name__ == "__main__":
    main()
