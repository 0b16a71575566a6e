"""What a pack's model consists of: each tensor, made part by part, and what only a constructor can compute."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lottapack import arch
from lottapack.arch.skeleton import computed_tensors
from lottapack.errors import PlacementError
from lottapack.folders import companions
from lottapack.format import dtypes, recipe
from lottapack.format.descriptor import Adapted, Seeded, Tied
from lottapack.format.packfile import PackFile
from lottapack.loading.placements import part_of
from lottapack.nn.attach import attach
from lottapack.nn.select import entries_of
from lottapack.weights.loaded_size import adapter_dtypes
from lottapack.weights.part_tensors import PlainTensor, stored_part
from lottapack.weights.parts import Part, whole
from lottapack.weights.rebuild import skeleton

_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module")
"""What torch.compile and checkpoint_wrapper put into names."""


@dataclass(frozen=True)
class RebuiltTensor:
    """A tensor of a rebuilt model.

    ``dtype``: that which load() gives it. ``make(part)``: that part, perhaps narrower, as it is stored.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[Part], Tensor]


def rebuilt_tensors(pack: PackFile, device: torch.device, *, merge: bool, check: bool) -> Iterator[RebuiltTensor]:
    """Every tensor of a pack's model once. ``check``: compare the fingerprint of each generated one first."""
    kept = {} if merge else adapter_dtypes(pack, None)
    for name, entry in pack.descriptor.parameters.items():
        if isinstance(entry, Tied):
            continue
        found = PlainTensor(pack, name, device)
        if check and isinstance(entry, Seeded | Adapted):
            found.check_fingerprint()
        if merge or not isinstance(entry, Adapted):
            yield RebuiltTensor(name, found.shape, found.dtype, found.part)
            continue
        yield RebuiltTensor(name, found.shape, found.dtype, found.backbone)
        for info in pack.adapter(name).values():
            dtype = dtypes.torch_dtype(kept[info])
            yield RebuiltTensor(info.name, info.shape, dtype, partial(stored_part, pack, info))


def empty_model(pack: PackFile, *, merge: bool, max_bytes: int | None = None) -> tuple[nn.Module, recipe.Recipe]:
    """The model of a pack without memory, with adapters unless ``merge``, and its recipe. ``max_bytes``: see load()."""
    model = skeleton(pack.descriptor, max_bytes)
    groups = {entry.name: entry.group for entry in entries_of(model, arch.family_of(model).heads(model))}
    plan = recipe.of_descriptor(pack.whole, pack.tables, groups)
    if not merge:
        attach(model, plan, scaffold=pack.scaffold)
    companions.carry(model, pack)
    return model, plan


def plain_name(name: str) -> str:
    """A tensor's name without what wrappers put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def held_part(name: str, tensor: Tensor) -> Part:
    """The part of a tensor that this process holds: all of it, if it is not distributed. Raises PlacementError."""
    if not hasattr(tensor, "device_mesh"):
        return whole(tuple(tensor.shape))
    sharded: Any = tensor
    part = part_of(name, tuple(tensor.shape), sharded.device_mesh, sharded.placements)
    here = tuple(local_tensor(tensor).shape)
    if here != part.shape:
        raise PlacementError(
            f"{name}: the shard of {sharded.placements} here has the shape {here}, not {part.shape}",
            hint="Shard it with fully_shard(), parallelize_module() or distribute_tensor().",
        )
    return part


def local_tensor(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    if not hasattr(tensor, "to_local"):
        return tensor
    found: Tensor = tensor.to_local()
    return found


def copy_part(tensor: Tensor, made: Tensor) -> None:
    """Write what this process holds of a tensor."""
    memory = local_tensor(tensor)
    with torch.inference_mode(memory.is_inference()), torch.no_grad():
        memory.copy_(made.to(memory.device))


def computed_by(source: nn.Module) -> dict[str, Tensor]:
    """What only the constructor of a pack's model can compute, and the recipe, by name."""
    found = dict(computed_tensors(source))
    found |= {name: buffer for name, buffer in source.named_buffers() if name.rpartition(".")[2] == recipe.BUFFER}
    return {name: tensor for name, tensor in found.items() if not tensor.is_meta and not hasattr(tensor, "device_mesh")}


def give_computed(model: nn.Module, computed: dict[str, Tensor], device: torch.device) -> None:
    """Give a model what the pack's constructor computed."""
    modules = {plain_name(name): module for name, module in model.named_modules(remove_duplicate=False)}
    for name, value in computed.items():
        prefix, _, leaf = name.rpartition(".")
        module = modules.get(prefix)
        if module is None:
            continue
        held = module._buffers.get(leaf)
        if held is not None and hasattr(held, "device_mesh"):  # parallelize_module() distributes buffers too
            copy_part(held, held_part(name, held).take(value))
        elif leaf in module._buffers:
            module._buffers[leaf] = value.to(device)
        elif isinstance(vars(module).get(leaf), Tensor):
            setattr(module, leaf, value.to(device))
