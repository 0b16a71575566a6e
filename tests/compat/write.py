"""Write the packs of a released version: ``python tests/compat/write.py 0.1.0``. Existing files are never overwritten.

A version's folder holds packs, and for each a JSON file with its SHA-256, the fingerprint of every generated tensor,
and the SHA-256 of every merged tensor. Every later version reads them and must find the same.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
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
    for model in found.values():
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    noise = lottapack.draw(f"learned.{name}", parameter.shape, seed=1, scale=0.125)
                    parameter += noise.to(parameter.dtype)
    return found


def main() -> None:
    """Write the folder of one version."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", help="the version to be released, as 0.1.0")
    version = parser.parse_args().version
    if version != lottapack.__version__:
        parser.error(f"this is lottapack {lottapack.__version__}")
    folder = HERE / f"v{version}"
    folder.mkdir()  # fails if it exists: packs of a released version never change
    for name, model in models().items():
        path = folder / f"{name}{SUFFIX}"
        lottapack.pack(model, path)
        text = json.dumps(facts(path), indent=1)
        path.with_name(f"{name}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
