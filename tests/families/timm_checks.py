"""Checks of the family ``timm``, run in its own environment and process. Prints JSON.

The argument is a folder: it receives packs that another environment checks.
"""

import hashlib
import importlib.util
import json
import sys
from contextlib import suppress
from pathlib import Path

import torchvision_if_it_works  # noqa: F401 - before timm

# isort: split
import timm
import torch
from torch import nn

import lottapack
from lottapack.format.descriptor import Architecture

MODELS = {
    "vit_tiny_patch16_224": {"img_size": (32, 32), "patch_size": 8, "depth": 2, "num_classes": 10},
    "resnet10t": {"num_classes": 10},
    "swin_tiny_patch4_window7_224": {
        "img_size": 56,
        "depths": (2, 2),
        "num_heads": (2, 4),
        "embed_dim": 32,
        "num_classes": 10,
    },
}


def digest(model: nn.Module) -> str:
    """Return the bits of every parameter and buffer, generated ones included."""
    found = hashlib.sha256()
    for name, tensor in sorted([*model.named_parameters(), *model.named_buffers()]):
        if name != "lottapack_recipe":
            found.update(name.encode() + tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def rebuilt(name: str, arguments: dict, folder: Path) -> dict:
    """Build, scaffold, train a step, pack, load."""
    torch.manual_seed(1)
    model = lottapack.scaffold(lottapack.build("timm", name, **arguments), seed=2, rank=2)
    x = torch.randn(2, 3, *[{"vit": 32, "swi": 56}.get(name[:3], 64)] * 2)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    nn.functional.cross_entropy(model(x), torch.tensor([1, 2])).backward()
    optimizer.step()
    path = lottapack.pack(model, folder / f"{name}.lotta.safetensors").path
    again = lottapack.load(path, check_fingerprints=True)
    with torch.no_grad():
        same = torch.equal(model.eval()(x).view(torch.int32), again(x).view(torch.int32))
    statuses = {check.status for check in lottapack.verify(path).checks}
    summary = lottapack.inspect(path)
    lottapack.export(path, folder / f"{name}.safetensors")
    return {
        "same": same and digest(model) == digest(again),
        "verified": sorted(statuses),
        "config": summary.config,
        "provenance": sorted(summary.provenance),
        "head": sorted(p.name for p in summary.parameters if p.group == "head"),
    }


def run_otherwise(folder: Path) -> dict:
    """Change how a model runs, and not what it is."""
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2, "num_classes": 3}
    vit = lottapack.scaffold(lottapack.build("timm", "vit_tiny_patch16_224", **arguments), seed=2, rank=2)
    path = folder / "otherwise.lotta.safetensors"
    before = lottapack.pack(vit, path).sha256
    vit.blocks[0].attn.fused_attn = not vit.blocks[0].attn.fused_attn
    unfused = lottapack.pack(vit, path).sha256
    apart = lottapack.compare(vit, path, torch.randn(1, 3, 32, 32)).unmerged
    net = lottapack.scaffold(lottapack.build("timm", "mobilenetv3_small_050", num_classes=3), seed=2, rank=2)
    bare = lottapack.pack(net, path).sha256
    synced = lottapack.pack(timm.layers.convert_sync_batchnorm(net), path).sha256
    vit.attn_pool = nn.Flatten()  # where the constructor sets None, and reset_classifier() another module
    with suppress(lottapack.LottapackError):
        lottapack.pack(vit, path)
        return {"pooled": "packed"}
    return {"fused_attn": before == unfused, "apart": apart, "sync": bare == synced}


def refused(architecture: Architecture) -> str:
    try:
        lottapack.arch.build(architecture)
    except lottapack.LottapackError as fault:
        return f"{type(fault).__name__}: {fault.message}"
    return "built"


def undeclared() -> str:
    model = timm.create_model("resnet10t", num_classes=2)
    try:
        lottapack.scaffold(model, seed=1)
    except lottapack.LottapackError as fault:
        return f"{type(fault).__name__}: {fault}"
    return "scaffolded"


def someone_elses(folder: Path) -> str:
    """Register a model from another package with the library."""
    source = folder / "their_models.py"
    source.write_text(
        "from timm.models import register_model\nfrom torch import nn\n"
        "@register_model\ndef theirs(pretrained=False, **kwargs):\n    return nn.Linear(1, 1)\n",
        "utf-8",
    )
    spec = importlib.util.spec_from_file_location("their_models", source)
    module = importlib.util.module_from_spec(spec)
    sys.modules["their_models"] = module
    spec.loader.exec_module(module)
    return refused(Architecture(family="timm", class_="theirs", config={}))


def main() -> None:
    folder = Path(sys.argv[1])
    found = {
        "torch": torch.__version__,
        "models": {name: rebuilt(name, arguments, folder) for name, arguments in MODELS.items()},
        "unknown": refused(Architecture(family="timm", class_="no_such_model", config={})),
        "argument": refused(Architecture(family="timm", class_="resnet10t", config={"depht": 3})),
        "someone_elses": someone_elses(folder),
        "undeclared": undeclared(),
        "run_otherwise": run_otherwise(folder),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
