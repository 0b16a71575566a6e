"""Generate tokens with a virtual backbone, beside the same model materialised.

The script packs a shape of the paper with a sign1 backbone once, as if it had been trained. Each mode then loads the
pack in its own process and writes tokens. The script compares speed, memory and logits. It downloads nothing.

    python examples/generate.py [--scale 300M] [--ways virtual] [--dtype bfloat16] [--new 24] [--json]

``--scale 8B`` is the shape of Llama 3 8B, whose 7 billion generated weights would take 28 GB. Modes that do not fit
into memory are left out and named. The virtual mode takes 4.9 GB of memory and 4.3 GB of disk for temporary files
(TMPDIR).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import lottapack
from lottapack.limits import check_disk
from lottapack.reports.llamas import LLAMAS, empty_llama

WAYS = ("virtual", "materialised")
DTYPES = ("float32", "bfloat16")
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
PROMPT = [1, 306, 4658, 278, 6593, 310, 2834, 338]
TIMEOUT = 600
LARGE = {
    "8B": {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128_256,
        "tie_word_embeddings": False,  # as in the 8B model: embeddings and head take 2.1 GB each
    }
}
"""Shapes that are none of the paper's: arguments of LlamaConfig."""


def untouched(scale: str) -> nn.Module:
    """Build a Llama whose memory is reserved but written for its norms only, so that virtual weights never take any."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.initialization import no_init_weights

    config = LlamaConfig(**LARGE[scale]) if scale in LARGE else empty_llama(LLAMAS[scale]).config
    with no_init_weights():
        model = LlamaForCausalLM(config)
    model.tie_weights()  # part of the skipped initialisation
    return model


def held(model: nn.Module) -> int:
    """Return the bytes of a model's tensors."""
    return sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])


def packing(scale: str, folder: Path) -> dict[str, object]:
    """Pack a scaffolded Llama with sign1 weights and random trained values. Returns time and memory."""
    warm_up()
    before, begin = resident("VmRSS"), time.perf_counter()
    torch.manual_seed(0)
    model = untouched(scale)
    lottapack.scaffold(model, seed=42, rank=8, targets=TARGETS, distribution="sign1", backbone="virtual")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_B"):
                parameter.normal_(0, 0.02)
    scaffolded = time.perf_counter()
    check_disk(f"the pack of {scale}", held(model), folder)
    pack = lottapack.pack(model, folder / "llama.lotta.safetensors")
    return {
        "pack_bytes": pack.size,
        "scaffold_seconds": scaffolded - begin,
        "pack_seconds": time.perf_counter() - scaffolded,
        "libraries_bytes": before,
        "model_bytes": held(model),
        "whole_peak_bytes": resident("VmHWM"),
    }


def resident(what: str) -> int:
    """Return this process's bytes: ``VmRSS`` (now) or ``VmHWM`` (peak). Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) * 1024


def warm_up() -> None:
    """Import the libraries and compile or read kernels, so that their memory can be subtracted."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from lottapack.running import generate

    small = torch.nn.Sequential(torch.nn.Linear(64, 64))
    lottapack.scaffold(small, seed=0, rank=1, distribution="sign1", backbone="virtual", train=())
    for inputs in (1, 8, 64):  # each has its own kernel
        small(torch.ones(inputs, 64, requires_grad=True)).sum().backward()
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    generate(LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes)), [1, 2, 3], 2, stop=False)


class Activations(TorchDispatchMode):
    """Counts the memory of tensors that operators return inside the context: hidden states, logits, the cache.

    ``most`` is the peak in bytes. Views of one memory count once; memory in ``known`` does not count.
    """

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.tensors: Counter[int] = Counter()
        self.live = self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and (place := tensor.untyped_storage().data_ptr()) not in self.known:
                size = tensor.untyped_storage().nbytes()
                self.live += 0 if self.tensors[place] else size
                self.tensors[place] += 1
                weakref.finalize(tensor, self.gone, place, size)
        self.most = max(self.most, self.live)
        return out

    def gone(self, place: int, size: int) -> None:
        """Forget one tensor of this memory."""
        self.tensors[place] -= 1
        self.live -= 0 if self.tensors[place] else size


def working(path: Path, way: str, dtype: str, new: int, logits: Path) -> dict[str, object]:
    """Load, write tokens and return time and memory; write the prompt's logits to a file."""
    from lottapack.format.descriptor import Adapted, Seeded
    from lottapack.format.packfile import open_pack
    from lottapack.running import generate

    warm_up()
    before, begin = resident("VmRSS"), time.perf_counter()
    model = lottapack.load(path, backbone=way, dtype=getattr(torch, dtype))
    loaded = time.perf_counter() - begin
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    with open_pack(path) as pack:
        generated = [name for name, entry in pack.descriptor.parameters.items() if isinstance(entry, Seeded | Adapted)]
    kept = [tensors.get(name, tensors.get(f"{name.removesuffix('weight')}backbone")) for name in generated]
    backbone = sum(tensor.nbytes for tensor in kept if tensor is not None)
    generate(model, PROMPT, 2, stop=False)
    done = generate(model, PROMPT, new, stop=False)
    peak = resident("VmHWM")
    with torch.no_grad():
        torch.save(model(torch.tensor([PROMPT])).logits[0].float(), logits)
    with Activations([*model.parameters(), *model.buffers()]) as counted:
        generate(model, PROMPT, new, stop=False)
    return {
        "load_seconds": loaded,
        "tokens_per_s": done.tokens_per_s,
        "libraries_bytes": before,
        "backbone_bytes": backbone,
        "model_bytes": held(model),
        "activation_bytes": counted.most,
        "peak_bytes": peak - before,
        "whole_peak_bytes": peak,
        "whole_ratio": peak / (held(model) + counted.most),
        "tokens": done.tokens,
    }


def in_new_process(*arguments: str | Path) -> dict[str, object]:
    """Return the result of packing() or working(), or ``refused`` with the reason if memory is short."""
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    out = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT).stdout
    return dict(json.loads(out.splitlines()[-1]))


def packed(scale: str, folder: Path) -> tuple[Path, dict[str, object]]:
    """Return the pack's path and the result of packing() in a new process."""
    return folder / "llama.lotta.safetensors", in_new_process("pack", scale, folder)


def measured(path: Path, way: str, new: int, folder: Path, dtype: str = "float32") -> dict[str, object]:
    """Run working() in a new process."""
    logits = folder / f"{way}-{dtype}.pt"
    return {"way": way, "dtype": dtype, **in_new_process("work", path, way, dtype, str(new), logits)}


def child(what: str, *arguments: str) -> None:
    """Print the result that in_new_process() reads."""
    try:
        if what == "pack":
            found = packing(arguments[0], Path(arguments[1]))
        else:
            path, way, dtype, new, logits = arguments
            found = working(Path(path), way, dtype, int(new), Path(logits))
    except lottapack.errors.LimitError as fault:  # before any memory is taken
        found = {"refused": fault.message}
    print(json.dumps(found))


def difference(folder: Path, one: tuple[str, str], other: tuple[str, str]) -> float:
    """Return the largest difference of the prompt's logits, relative to the largest logit of the reference."""
    first, second = (torch.load(folder / f"{way}-{dtype}.pt") for way, dtype in (one, other))
    return float((first - second).abs().max() / second.abs().max())


def compared(scale: str, ways: Iterable[str], dtype: str, new: int, folder: Path) -> dict[str, object]:
    """Pack, run each mode, compare."""
    path, took = packed(scale, folder)
    report: dict[str, object] = {"scale": scale, "packing": took, "rows": []}
    if "refused" in took:
        return report
    report["rows"] = rows = [measured(path, way, new, folder, dtype) for way in ways]
    worked = [(row["way"], dtype) for row in rows if "refused" not in row]
    report["largest_difference"] = difference(folder, *worked) if len(worked) == 2 else None
    return report


def show_memory(what: str, took: dict[str, object]) -> None:
    """Format a process's peak memory and its parts."""
    parts = {"libraries": took["libraries_bytes"], "model": took["model_bytes"]}
    parts["activations"] = took.get("activation_bytes", 0)
    whole = took["whole_peak_bytes"]
    parts["rest"] = max(0, whole - sum(parts.values()))
    ratio = whole / (parts["model"] + parts["activations"])
    listed = " + ".join(f"{name} {size / 1e6:,.0f}" for name, size in parts.items() if size)
    print(f"  {what:<24}{listed} = {whole / 1e6:,.0f} MB, {ratio:.2f} times model and activations")


def show(report: dict[str, object]) -> int:
    """Print a report. Returns 1 if every mode was refused."""
    took, rows = report["packing"], report["rows"]
    if "refused" in took:
        print(took["refused"])
        return 1
    print(f"Llama {report['scale']}, sign1: a pack of {took['pack_bytes']:,} bytes")
    print(f"scaffolded in {took['scaffold_seconds']:.1f} s, packed in {took['pack_seconds']:.1f} s")
    columns = f"{'load, s':>8}{'tokens/s':>10}{'its bytes':>16}{'model':>16}{'activations':>14}{'peak*':>16}"
    print(f"{'backbone':<24}{columns}")
    for row in rows:
        label = f"{row['way']}, {row['dtype']}"
        if "refused" in row:
            print(f"{label:<24}not on this machine: {row['refused']}")
            continue
        weights = f"{row['backbone_bytes']:>16,}{row['model_bytes']:>16,}"
        beside = f"{row['activation_bytes']:>14,}{row['peak_bytes']:>16,}"
        print(f"{label:<24}{row['load_seconds']:>8.1f}{row['tokens_per_s']:>10.2f}{weights}{beside}")
    print("* above what the libraries take. Peaks of whole processes:")
    show_memory("pack", took)
    for row in rows:
        if "refused" not in row:
            show_memory(f"{row['way']}, {row['dtype']}", row)
    if report["largest_difference"] is not None:
        print(f"largest difference of the prompt's logits: {report['largest_difference']:.1e} of the largest one")
    return 0 if any("refused" not in row for row in rows) else 1


def main() -> int:
    """Parse the command line, run the modes, print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="300M", choices=(*LLAMAS, *LARGE))
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--dtype", default=DTYPES[0], choices=DTYPES, help="that the model is loaded in")
    parser.add_argument("--new", type=int, default=24)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return 0
    with tempfile.TemporaryDirectory() as name:
        report = compared(options.scale, options.ways, options.dtype, options.new, Path(name))
    if options.json:
        print(json.dumps(report))
        return 0
    return show(report)


if __name__ == "__main__":
    sys.exit(main())
