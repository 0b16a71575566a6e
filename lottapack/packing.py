"""pack(): from a trained model or checkpoint to one file."""

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lottapack import checkpoint
from lottapack.arch.trust import allowing
from lottapack.packer import BackboneChangedWarning, Packer, PackResult
from lottapack.peft.reading import is_adapter, read_adapter
from lottapack.progress import Progress

__all__ = ["BackboneChangedWarning", "PackResult", "pack"]


def pack(
    model: nn.Module | Mapping[str, Any] | str | PathLike[str],
    path: str | PathLike[str],
    *,
    base: str | PathLike[str] | None = None,
    allow: str | Iterable[str] = (),
    progress: Progress | None = None,
) -> PackResult:
    """Write a scaffolded model as one pack. The same model gives the same bytes.

    Args:
        model: a module from scaffold() or load(), its state_dict, or the path of a checkpoint: safetensors or
            torch.save; a folder as the Hugging Face Trainer writes it; a folder with a PEFT adapter that was trained
            on a model of init_backbone_().
        path: the pack, usually ``NAME.lotta.safetensors``. An existing file is replaced in one step, at the end.
        base: for a PEFT adapter, the pack of its base, or a folder that holds it; by default what lies beside the
            adapter or what its configuration names.
        allow: as in load(), for a PEFT adapter whose base is of the family ``python``. Nothing else builds the model.
        progress: called with elements generated and elements in all.

    Raises:
        CheckpointError: no recipe, or tensors missing or left over. OutputError: the path cannot be written.
            UnsupportedError: an adapter has what a pack cannot carry.

    Warns:
        BackboneChangedWarning: a backbone in the checkpoint differs from what the seed generates, and is stored.
    """
    with allowing(allow), torch.no_grad():
        if isinstance(model, nn.Module):
            plan, tensors = checkpoint.of_model(model)
        elif isinstance(model, Mapping):
            plan, tensors = checkpoint.split(model)
        elif is_adapter(Path(model)):
            plan, tensors = read_adapter(Path(model), None if base is None else Path(base))
        else:
            plan, tensors = checkpoint.split(checkpoint.read_checkpoint(Path(model)))
        return Packer(plan, tensors, progress).write(Path(path))
