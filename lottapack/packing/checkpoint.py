"""Finding the recipe and the tensors in whatever a trainer saved. Nothing is ever unpickled beyond tensors."""

import json
from collections.abc import Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lottapack import arch
from lottapack.arch.skeleton import shapes_of
from lottapack.errors import (
    ArchitectureError,
    CheckpointError,
    FormatError,
    LimitError,
    NotAllowedError,
    UnsupportedError,
)
from lottapack.format import recipe
from lottapack.format.container import PACK_END
from lottapack.format.descriptor import ADAPTER_PARTS, adapter_prefix
from lottapack.format.packfile import open_pack
from lottapack.format.recipe import AdaptedRecipe, Recipe, StoredRecipe, TiedRecipe
from lottapack.links import require_own_file
from lottapack.output import refuse_over

_PICKLED = (".pt", ".pth", ".bin", ".ckpt")
_IN_FOLDER = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")
_MAX_NESTING = 3


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file or folder (safetensors or torch.save, in shards too). Raises CheckpointError."""
    if path.is_dir():
        found = next((path / name for name in _IN_FOLDER if (path / name).is_file()), None)
        if found is None:
            raise CheckpointError(
                f"{path} holds no checkpoint", hint=f"Looked for {', '.join(_IN_FOLDER)}. Name the file itself."
            )
        path = found
        require_own_file(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file or folder", hint="Name a checkpoint's file or folder.")
    if path.name.endswith(PACK_END):
        with suppress(FormatError), open_pack(path):
            raise CheckpointError(f"{path} is a pack, and packed already", hint="See what it holds: lottapack inspect.")
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    return read_file(path)


def read_file(path: Path) -> dict[str, Any]:
    """The content of one checkpoint file. Raises CheckpointError."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        if path.suffix in _PICKLED:
            content = torch.load(path, map_location="cpu", weights_only=True)
            if isinstance(content, Mapping):
                return dict(content)
            raise CheckpointError(
                f"{path} holds a {type(content).__name__}, not a state_dict",
                hint="Save model.state_dict(), not the model or a single tensor.",
            )
    except CheckpointError:
        raise
    except Exception as fault:
        # Both libraries raise many kinds; a file that asks for more than tensors ends here too.
        raise CheckpointError(
            f"{path} cannot be read as tensors: {_reason(path, fault)}",
            hint="Save the model's state_dict with safetensors.torch.save_file or torch.save.",
        ) from fault
    raise CheckpointError(f"{path}: unknown kind of file", hint=f"Known: .safetensors, {', '.join(_PICKLED)}")


def refuse_over_checkpoint(path: Path, checkpoint: object) -> None:
    """Raise OutputError if a pack written to ``path`` would replace a file of the checkpoint, if that is a path."""
    if isinstance(checkpoint, str | PathLike):
        folder = Path(checkpoint)
        packs = path.name.endswith(PACK_END)
        inside = folder.is_dir() and path.is_file() and not packs and path.parent.samefile(folder)
        refuse_over(path, path if inside else folder)


def _reason(path: Path, fault: Exception) -> str:
    """Why a file is no tensors, in a line; torch would advise to run whatever code a file holds."""
    if path.stat().st_size == 0:
        return "it is empty"
    if isinstance(fault, OSError):
        return fault.strerror or str(fault)
    if path.suffix in _PICKLED:
        return "it is no file of torch.save, is damaged, or holds objects that are no tensors"
    return str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__


def _read_shards(index: Path) -> dict[str, Any]:
    try:
        shards = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()), key=str)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as fault:
        raise CheckpointError(f"{index} is not an index of shards: {fault}") from fault
    merged: dict[str, Any] = {}
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise CheckpointError(f"{index} names a shard outside its folder: {shard!r}")
        if not (index.parent / shard).is_file():
            raise CheckpointError(f"{index.parent / shard} is missing", hint=f"{index.name} lists it; copy it there.")
        require_own_file(index.parent / shard)
        merged |= read_file(index.parent / shard)
    return merged


def split(content: Mapping[str, Any]) -> tuple[Recipe, dict[str, Tensor]]:
    """The recipe, and the tensors with the recipe's prefix taken off their names. Raises CheckpointError."""
    place = _find(content, 0)
    if place is None:
        raise CheckpointError(
            "the checkpoint carries no lottapack recipe",
            hint="It must be a state_dict of a model from lottapack.scaffold(), with the tensor lottapack_recipe. "
            "Without one: pack_torch_cpu() (--rng torch-cpu) if torch drew it, pack_merged() (--from-merged) if it is "
            "merged.",
        )
    state, key = place
    plan = recipe.of_tensor(state[key])
    prefix = key.removesuffix(recipe.BUFFER)
    tensors = {
        name.removeprefix(prefix): value
        for name, value in state.items()
        if isinstance(value, Tensor) and name.startswith(prefix) and name != key
    }
    return plan, under_own_names(plan, tensors)


def under_own_names(plan: Recipe, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by their names in the model, which a library may save under others."""
    own = set(plan.parameters)
    for name, entry in plan.parameters.items():
        if isinstance(entry, AdaptedRecipe | TiedRecipe):
            own |= {adapter_prefix(name) + part for part in ADAPTER_PARTS}
    unknown = tensors.keys() - own
    # Building the model could need a package or a permission, so only where it can help.
    if not unknown or not arch.family_called(plan.architecture.family).renamed:
        return tensors
    model = arch.build(plan.architecture)
    names = arch.family_of(model).names_in_model(model, unknown)
    return {names.get(name, name): tensor for name, tensor in tensors.items()}


def _find(content: Mapping[str, Any], depth: int) -> tuple[Mapping[str, Any], str] | None:
    """Search a state_dict, then dicts inside it ({"model": ..., "optimizer": ...}), in order."""
    keys = [
        key
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor) and key.rpartition(".")[2] == recipe.BUFFER
    ]
    if len(keys) > 1:
        raise CheckpointError(
            f"the checkpoint holds {len(keys)} recipes: {', '.join(keys[:5])}", hint="Pack one at a time."
        )
    if keys:
        return content, keys[0]
    if depth < _MAX_NESTING:
        for value in content.values():
            found = _find(value, depth + 1) if isinstance(value, Mapping) else None
            if found:
                return found
    return None


def require_shapes(plan: Recipe, tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for a stored tensor that has another shape than in the model that was scaffolded.

    A recipe does not tell these shapes, so the model is built, without weights, where it can be.
    """
    try:
        model = arch.build(plan.architecture)
    except (ArchitectureError, LimitError, NotAllowedError, UnsupportedError):
        return  # here; elsewhere it may be built
    for name, shape in shapes_of(model).items():
        stored = name in tensors and isinstance(plan.parameters.get(name), StoredRecipe)
        if stored and tuple(tensors[name].shape) != shape:
            raise CheckpointError(
                f"{name} has shape {tuple(tensors[name].shape)}, and {shape} in the model that was scaffolded",
                hint="A layer was replaced or resized after scaffold(), which keeps the model as it was: do it before.",
            )


def reconcile_ties(plan: Recipe, tensors: dict[str, Tensor]) -> set[str]:
    """Tied entries may be in a checkpoint too: give the owner a tensor that only its copy has; return the copies.

    Raises CheckpointError where a copy has drifted from its owner.
    """
    copies = set()
    for name, entry in plan.parameters.items():
        if not isinstance(entry, TiedRecipe):
            continue
        owner = plan.resolve(name)
        pairs = [(name, owner)]
        if isinstance(plan.parameters[owner], AdaptedRecipe):
            pairs += [(adapter_prefix(name) + part, adapter_prefix(owner) + part) for part in ADAPTER_PARTS]
        for copy, original in pairs:
            if copy in tensors and copy != original:
                copies.add(copy)
                if not same_bits(tensors[copy], tensors.setdefault(original, tensors[copy])):
                    raise CheckpointError(
                        f"{copy} was tied to {original} when the model was scaffolded, and now differs",
                        hint="Something untied them in training; tie them again, or scaffold an untied model.",
                    )
    return copies


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have one dtype and shape, and in every element the same bits."""
    if one is other:
        return True
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    first, second = (tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(first, second)


def of_model(model: nn.Module) -> tuple[Recipe, dict[str, Tensor]]:
    """As split(), of a live model, with its backbone, so that packing can compare it."""
    plan, tensors = split(model.state_dict())
    prefix = next(n for n, _ in model.named_buffers() if n.rpartition(".")[2] == recipe.BUFFER).removesuffix(
        recipe.BUFFER
    )
    for name, buffer in model.named_buffers(remove_duplicate=False):
        short = name.removeprefix(prefix)
        if name.startswith(prefix) and short in plan.parameters:
            tensors[short] = buffer
    return plan, tensors
