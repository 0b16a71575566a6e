"""Write the packs of a version: ``python tests/compat/write.py 0.1.0``. Existing files are never overwritten.

A version's folder holds packs, and for each a JSON file with its SHA-256, the fingerprint of every generated tensor,
and the SHA-256 of every merged tensor. Every later version reads them and must find the same.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

import lottapack
from lottapack import rng

HERE = Path(__file__).parent
SUFFIX = ".lotta.safetensors"


def digest(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's bytes."""
    flat = tensor.detach().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"").hexdigest()


def facts(path: Path) -> dict[str, Any]:
    """Return the facts that must stay true of a pack."""
    with lottapack.open_pack(path) as pack:
        entries = pack.descriptor.parameters
        fingerprints = {
            name: rng.fingerprint_hex(rng.fingerprint_of(pack.source(name), torch.Size(entry.shape).numel()))
            for name, entry in entries.items()
            if hasattr(entry, "fingerprint")
        }
    merged = lottapack.load(path, merge=True).state_dict()
    return {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "fingerprints": dict(sorted(fingerprints.items())),
        "merged_sha256": {name: digest(merged[name]) for name in sorted(merged)},
    }


def models() -> dict[str, nn.Module]:
    """Build scaffolded models with every role, backbone dtype and kind of layer; lottapack draws the learned values."""
    twice = nn.Linear(8, 8)
    text = nn.Sequential(nn.Embedding(12, 8, padding_idx=0), twice, nn.Tanh(), twice, nn.Flatten(), nn.Linear(24, 3))
    image = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(24, 3)
    )
    table = rng.custom("laplace4", [-3.0, -1.0, -0.5, -0.125, 0.125, 0.5, 1.0, 3.0] * 2)
    found = {
        "text": lottapack.scaffold(
            text.bfloat16(), seed=2**64 - 1, rank=3, scaling="rslora", targets=["0", "1"], train=["heads", "biases"]
        ),
        "image": lottapack.scaffold(image, seed=42, rank={"0": 2, "3": 4}, alpha=3.0, distribution=table),
        "frozen": lottapack.scaffold(
            nn.Sequential(nn.Linear(16, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 4)).half(),
            seed=7,
            rank=1,
            targets="0",
            train=["norms"],
            distribution="sign1",
            beta=1.0,
        ),
    }
    return found | others()


def others() -> dict[str, nn.Module]:
    """Build models of the other kinds: scaffolds, matrices of signs, VeRA, diagonals, a frozen factor, transformers."""

    def two() -> nn.Sequential:
        return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 8))

    config = transformers.GPT2Config(
        n_layer=1, n_embd=8, n_head=2, n_positions=8, vocab_size=16, bos_token_id=0, eos_token_id=0
    )
    return {
        "scaffolds": lottapack.scaffold(two(), seed=1, scaffolds={"b": 2, "c": 3}, rank=2, targets=["0", "2"]),
        "hadamard": lottapack.scaffold(two(), seed=1, rank=2, targets=["0", "2"], distribution="hadamard"),
        "vera": lottapack.scaffold(two(), seed=1, rank=4, targets=["0", "2"], vera=True),
        "diagonal": lottapack.scaffold(two(), seed=1, rank=0, targets=["0", "2"], beta="input"),
        "frozen_factor": lottapack.scaffold(two(), seed=1, rank=2, targets=["0", "2"], frozen_factor="lora_A"),
        "gpt2": lottapack.scaffold(transformers.GPT2LMHeadModel(config), seed=1, rank=2),
    }


CODINGS = ("int8-block64", "normal4-block64", "trellis8", "planes-zlib")
NARROW = ("float16", "bfloat16")


def learn(model: nn.Module) -> None:
    """Give what is trained values that lottapack draws."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                noise = lottapack.draw(f"learned.{name}", parameter.shape, seed=1, scale=0.125)
                parameter += noise.to(parameter.dtype)


def coded() -> nn.Module:
    """Build a model with an embedding that is worth a coding."""
    model = nn.Sequential(nn.Embedding(96, 16), nn.Flatten(), nn.Linear(16, 4))
    return lottapack.scaffold(model, seed=5, rank=2, targets=["2"], train=["embeddings", "biases"])


def main() -> None:
    """Write the folder of one version."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", help="the version to be released, as 0.1.0")
    parser.add_argument("--missing", action="store_true", help="add packs of kinds that the folder lacks")
    version = parser.parse_args().version
    if version != lottapack.__version__:
        parser.error(f"this is lottapack {lottapack.__version__}")
    folder = HERE / f"v{version}"
    folder.mkdir(exist_ok=parser.parse_args().missing)  # packs of a released version never change
    compressions = dict.fromkeys(models(), lottapack.Compression())
    compressions |= {f"coded_{coding}": lottapack.Compression(coding=coding) for coding in CODINGS}
    compressions |= {f"coded_{dtype}": lottapack.Compression(dtype=getattr(torch, dtype)) for dtype in NARROW}
    for name, compression in compressions.items():
        path = folder / f"{name}{SUFFIX}"
        if path.exists():
            continue
        model = coded() if name.startswith("coded_") else models()[name]
        learn(model)
        lottapack.pack(model, path, compression=compression)
        text = json.dumps(facts(path), indent=1)
        path.with_name(f"{name}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
