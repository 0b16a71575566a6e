"""Tokens from a Llama whose backbone is in no memory, beside the same model with it.

The 300M shape of the paper with a sign1 scaffold is packed, once, as if it had been trained. Each way to hold its
backbone then loads the pack in a process of its own and writes tokens; their speed, their memory and their logits
are compared. Nothing is downloaded.

    python examples/generate.py [--scale 300M] [--new 24] [--json]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import lottapack

WAYS = ("virtual", "materialised")
PROMPT = [1, 306, 4658, 278, 6593, 310, 2834, 338]
TIMEOUT = 600


def packed(scale: str, folder: Path) -> Path:
    """The pack of a scaffolded Llama with sign1 weights; what would be trained is random."""
    from transformers import LlamaForCausalLM

    from lottapack.reports.llamas import LLAMAS, empty_llama

    torch.manual_seed(0)
    model = LlamaForCausalLM(empty_llama(LLAMAS[scale]).config)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    lottapack.scaffold(model, seed=42, rank=8, targets=targets, distribution="sign1", backbone="virtual")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_B"):
                parameter.normal_(0, 0.02)
    return lottapack.pack(model, folder / "llama.lotta.safetensors").path


def resident(what: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at most so far (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) * 1024


def warm_up() -> None:
    """Import what layers and writing need, and compile kernels or read compiled ones: the libraries' memory."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from lottapack.running import generate

    small = torch.nn.Sequential(torch.nn.Linear(64, 64))
    lottapack.scaffold(small, seed=0, rank=1, distribution="sign1", backbone="virtual", train=())
    for inputs in (1, 64):
        small(torch.ones(inputs, 64, requires_grad=True)).sum().backward()
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    generate(LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes)), [1, 2, 3], 2, stop=False)


class Activations(TorchDispatchMode):
    """Counts the memory of tensors that operators return, while it is entered: hidden states, logits, the cache.

    ``most``: bytes at once at most. Views of one memory count once, and what is in ``known`` does not.
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
        """One of the tensors that lie there is not used any more."""
        self.tensors[place] -= 1
        self.live -= 0 if self.tensors[place] else size


def child(path: Path, way: str, new: int, logits: Path) -> None:
    """Load, write tokens and print what it took; the logits of the prompt go to a file."""
    from lottapack.format.descriptor import Adapted, Seeded
    from lottapack.format.packfile import open_pack
    from lottapack.running import generate

    warm_up()
    before = resident("VmRSS")
    model = lottapack.load(path, backbone=way)
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    held = sum(tensor.nbytes for tensor in tensors.values())
    with open_pack(path) as pack:
        generated = [name for name, entry in pack.descriptor.parameters.items() if isinstance(entry, Seeded | Adapted)]
    backbone = sum(tensors[name].nbytes for name in generated if name in tensors)
    loaded = resident("VmRSS") - before
    generate(model, PROMPT, 2, stop=False)
    done = generate(model, PROMPT, new, stop=False)
    peak = resident("VmHWM") - before
    with torch.no_grad():
        torch.save(model(torch.tensor([PROMPT])).logits[0], logits)
    with Activations([*model.parameters(), *model.buffers()]) as counted:
        generate(model, PROMPT, new, stop=False)
    print(
        json.dumps(
            {
                "way": way,
                "tokens_per_s": done.tokens_per_s,
                "libraries_bytes": before,
                "backbone_bytes": backbone,
                "model_bytes": held,
                "activation_bytes": counted.most,
                "loaded_bytes": loaded,
                "peak_bytes": peak,
                "tokens": done.tokens,
            }
        )
    )


def measured(path: Path, way: str, new: int, folder: Path) -> dict[str, object]:
    """One way, in a new process."""
    command = [sys.executable, __file__, "--child", str(path), way, str(folder / f"{way}.pt"), "--new", str(new)]
    out = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT).stdout
    return dict(json.loads(out.splitlines()[-1]))


def main() -> None:
    """Parse the command line, run both ways, print them beside each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="300M", choices=("3M", "30M", "300M", "600M", "900M"))
    parser.add_argument("--new", type=int, default=24)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=3, metavar=("PACK", "WAY", "LOGITS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        path, way, logits = options.child
        child(Path(path), way, options.new, Path(logits))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = packed(options.scale, folder)
        rows = [measured(path, way, options.new, folder) for way in WAYS]
        one, other = (torch.load(folder / f"{way}.pt") for way in WAYS)
        error = float((one - other).abs().max() / other.abs().max())
        report = {"scale": options.scale, "pack_bytes": path.stat().st_size, "rows": rows, "largest_difference": error}
    if options.json:
        print(json.dumps(report))
        return
    print(f"Llama {options.scale}, sign1, a pack of {report['pack_bytes']:,} bytes; {options.new} tokens")
    print(
        f"{'backbone':<14}{'tokens/s':>10}{'its bytes':>16}{'model':>16}{'activations':>14}{'peak of the process':>22}"
    )
    for row in rows:
        weights = f"{row['backbone_bytes']:>16,}{row['model_bytes']:>16,}"
        beside = f"{row['activation_bytes']:>14,}{row['peak_bytes']:>22,}"
        print(f"{row['way']:<14}{row['tokens_per_s']:>10.2f}{weights}{beside}")
    print(f"peaks are above what the libraries take: {rows[0]['libraries_bytes']:,} bytes")
    print(f"largest difference of the prompt's logits: {error:.1e} of the largest one")


if __name__ == "__main__":
    main()
