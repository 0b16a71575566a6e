"""Checks of timm inside transformers, run where both are installed. Prints the result of each configuration as JSON.

The argument is an empty folder. Configurations go straight to the builder and skip the rules on keys.
"""

import json
import os
import sys
from pathlib import Path

try:
    import torchvision  # noqa: F401
except RuntimeError:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    import torchvision_without_ops  # noqa: F401
import torch

from lottapack import arch
from lottapack.arch.skeleton import computed_tensors
from lottapack.errors import LottapackError
from lottapack.format.descriptor import Architecture

WRAPPER = {
    "model_type": "timm_wrapper",
    "architecture": "resnet10t",
    "num_classes": 3,
    "label_names": ["a", "b", "c"],
    "num_labels": 3,
}
BACKBONE = {"model_type": "timm_backbone", "backbone": "resnet10t", "out_indices": [4]}


class Evil:
    """Writes a file when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (exec, (f"open({str(self.mark)!r}, 'w').close()",))


def built(family: str, cls: str, config: dict) -> str:
    try:
        model = arch.build(Architecture(family=family, class_=cls, config=config))
    except LottapackError as fault:
        return f"{type(fault).__name__}: {fault.message}"
    return f"built {type(model).__name__}"


def described() -> str:
    """Describe and rebuild a model whose timm part fills buffers after construction; compare them."""
    from transformers import TimmBackbone, TimmBackboneConfig

    model = TimmBackbone(TimmBackboneConfig(backbone="swin_tiny_patch4_window7_224", out_indices=[3]))
    try:
        made = arch.build(arch.describe(model))
    except LottapackError as fault:
        return f"{type(fault).__name__}: {fault.message}"
    ours, again = dict(computed_tensors(model)), dict(computed_tensors(made))
    same = all(torch.equal(tensor, again[name]) for name, tensor in ours.items() if not tensor.is_meta)
    return f"{len(ours)} tensors, {'equal' if same else 'other'}"


def main() -> None:
    folder = Path(sys.argv[1])
    mark, evil, local = folder / "ran", folder / "evil", folder / "local"
    torch.save({"x": Evil(mark)}, evil)
    local.mkdir()
    (local / "config.json").write_text(json.dumps({"architecture": "resnet10t", "num_classes": 3}), "utf-8")
    checkpoint, pretrained = {"checkpoint_path": str(evil)}, {"pretrained_cfg": {"file": str(evil)}, "pretrained": True}
    os.chdir(folder)
    found = {
        "wrapper": built("transformers", "TimmWrapperModel", WRAPPER),
        "backbone": built("transformers", "TimmBackbone", BACKBONE),
        "detr": built("transformers", "DetrModel", {"model_type": "detr", "backbone_config": BACKBONE}),
        "timm": built("timm", "resnet10t", {"num_classes": 3}),
        "filled": described(),
    }
    for cls in ("TimmWrapperModel", "TimmWrapperForImageClassification"):
        for where, arguments in (("checkpoint", checkpoint), ("pretrained", pretrained)):
            found[f"hostile {cls} {where}"] = built("transformers", cls, {**WRAPPER, "model_args": arguments})
        for name in (f"local-dir:{local}", "hf-hub:some/one"):
            found[f"hostile {cls} {name[:5]}"] = built("transformers", cls, {**WRAPPER, "architecture": name})
    relative = {"checkpoint_path": "evil"}
    found["hostile relative"] = built("transformers", "TimmWrapperModel", {**WRAPPER, "model_args": relative})
    found["hostile timm"] = built("timm", "resnet10t", checkpoint)
    found["hostile deep"] = built("timm", "vit_tiny_patch16_224", {"depth": 10**9})
    found["hostile depth"] = built("timm", "vit_tiny_patch16_224", {"depth": 2 * 10**6})
    found["ran"] = str(mark.exists())
    print(json.dumps(found))


if __name__ == "__main__":
    main()
