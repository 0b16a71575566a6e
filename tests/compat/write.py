"""Write the packs of a version: ``python tests/compat/write.py 0.1.0``. Existing files are never overwritten.

The pack of a timm model needs timm:
``PYTHONPATH=.:tests/families .venv-timm/bin/python tests/compat/write.py 0.1.0 --missing --timm``.

A version's folder holds packs, and for each a JSON file with its SHA-256, the fingerprint of every generated tensor,
and the SHA-256 of every merged tensor. Every later version reads them and must find the same.
"""

import argparse
import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from kinds import KINDS, PACKAGE, Kind, gpt2, learn, timm
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
            if hasattr(entry, "fingerprint") and pack.descriptor.rng.id == rng.ALGORITHM
        }
        family = pack.descriptor.architecture.family
    merged = exported(path) if family == "timm" else lottapack.load(path, merge=True, allow=PACKAGE).state_dict()
    return {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "fingerprints": dict(sorted(fingerprints.items())),
        "merged_sha256": {name: digest(merged[name]) for name in sorted(merged)},
    }


def exported(path: Path) -> dict[str, Tensor]:
    """Return the merged weights without building the model."""
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as folder:
        return load_file(lottapack.export(path, Path(folder, "plain.safetensors")))


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
    """Build models of the other kinds: scaffolds, matrices of signs, VeRA, diagonals, a frozen factor."""

    def two() -> nn.Sequential:
        return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 8))

    return {
        "scaffolds": lottapack.scaffold(two(), seed=1, scaffolds={"b": 2, "c": 3}, rank=2, targets=["0", "2"]),
        "hadamard": lottapack.scaffold(two(), seed=1, rank=2, targets=["0", "2"], distribution="hadamard"),
        "vera": lottapack.scaffold(two(), seed=1, rank=4, targets=["0", "2"], vera=True),
        "diagonal": lottapack.scaffold(two(), seed=1, rank=0, targets=["0", "2"], beta="input"),
        "frozen_factor": lottapack.scaffold(two(), seed=1, rank=2, targets=["0", "2"], frozen_factor="lora_A"),
    }


CODINGS = ("int8-block64", "normal4-block64", "trellis8", "planes-zlib")
NARROW = ("float16", "bfloat16")


def coded() -> nn.Module:
    """Build a model with an embedding that is worth a coding."""
    model = nn.Sequential(nn.Embedding(96, 16), nn.Flatten(), nn.Linear(16, 4))
    return lottapack.scaffold(model, seed=5, rank=2, targets=["2"], train=["embeddings", "biases"])


def given(name: str, folder: Path) -> Kind:
    """Return what pack() gets for a pack. ``folder``: for files beside a model."""
    if name in KINDS:
        return KINDS[name](folder)
    if name in ("gpt2", "timm"):
        return Kind(gpt2() if name == "gpt2" else timm(folder).model)
    if name.startswith("coded_"):
        form = name.removeprefix("coded_")
        options: dict[str, Any] = {"dtype": form} if form in NARROW else {"coding": form}
        return Kind(learn(coded()), {"compression": lottapack.Compression(**options)})
    return Kind(learn(models()[name]))


def write(name: str, path: Path) -> None:
    """Write one pack."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if name == "graph":
            write("tables", folder / f"tables{SUFFIX}")
            lottapack.onnx.export(folder / f"tables{SUFFIX}", folder / "graph", weights="none")
            shutil.copy(folder / "graph" / f"model{SUFFIX}", path)
        else:
            kind = given(name, folder)
            lottapack.pack(kind.model, path, **kind.options)


def main() -> None:
    """Write the folder of one version."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", help="the version to be released, as 0.1.0")
    parser.add_argument("--missing", action="store_true", help="add packs of kinds that the folder lacks")
    parser.add_argument("--timm", action="store_true", help="write the pack of a timm model alone")
    asked = parser.parse_args()
    if asked.version != lottapack.__version__:
        parser.error(f"this is lottapack {lottapack.__version__}")
    folder = HERE / f"v{asked.version}"
    folder.mkdir(exist_ok=asked.missing)  # packs of a released version never change
    names = [*models(), "gpt2", *(f"coded_{form}" for form in (*CODINGS, *NARROW)), *KINDS, "graph"]
    for name in ["timm"] if asked.timm else names:
        path = folder / f"{name}{SUFFIX}"
        if not path.exists():
            write(name, path)
            path.with_name(f"{name}.json").write_text(json.dumps(facts(path), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
