"""The tensors of a pack's model, rebuilt part by part, and those that only a constructor can compute."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lottapack.arch.skeleton import attributes, computed_tensors, plain_name, set_attribute
from lottapack.errors import PlacementError
from lottapack.folders import companions
from lottapack.format import dtypes, recipe
from lottapack.format.descriptor import Adapted, Seeded, Tied
from lottapack.format.packfile import PackFile
from lottapack.loading.placements import part_of
from lottapack.nn.attach import attach
from lottapack.nn.skeletons import skeleton_of
from lottapack.weights.loaded_size import adapter_dtypes
from lottapack.weights.part_tensors import PlainTensor, stored_part
from lottapack.weights.parts import Part, whole


@dataclass(frozen=True)
class RebuiltTensor:
    """A tensor of a rebuilt model.

    ``dtype``: the dtype that load() gives it. ``make(part)``: returns that part, possibly in a narrower, stored dtype.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[Part], Tensor]


def rebuilt_tensors(pack: PackFile, device: torch.device, *, merge: bool, check: bool) -> Iterator[RebuiltTensor]:
    """Yield every tensor of a pack's model once. ``check``: first compare the fingerprint of each generated one."""
    kept = {} if merge else adapter_dtypes(pack, None)
    for name, entry in pack.descriptor.parameters.items():
        if isinstance(entry, Tied):
            continue
        tensor = PlainTensor(pack, name, device)
        if check and isinstance(entry, Seeded | Adapted):
            tensor.check_fingerprint()
        if merge or not isinstance(entry, Adapted):
            yield RebuiltTensor(name, tensor.shape, tensor.dtype, tensor.part)
            continue
        yield RebuiltTensor(name, tensor.shape, tensor.dtype, tensor.backbone)
        for info in pack.adapter(name).values():
            dtype = dtypes.torch_dtype(kept[info])
            yield RebuiltTensor(info.name, info.shape, dtype, partial(stored_part, pack, info))


def empty_model(pack: PackFile, *, merge: bool, max_bytes: int | None = None) -> tuple[nn.Module, recipe.Recipe]:
    """Build a pack's model without memory, with adapters unless ``merge``, and its recipe.

    ``max_bytes``: see load().
    """
    model, _, model_recipe = skeleton_of(pack, max_bytes)
    if not merge:
        attach(model, model_recipe, scaffold=pack.scaffold)
    companions.carry(model, pack)
    return model, model_recipe


def held_part(name: str, tensor: Tensor) -> Part:
    """Return the part of a tensor that this process holds, all of it if not distributed. Raises PlacementError."""
    if not hasattr(tensor, "device_mesh"):
        return whole(tuple(tensor.shape))
    sharded: Any = tensor
    part = part_of(name, tuple(tensor.shape), sharded.device_mesh, sharded.placements)
    local_shape = tuple(local_tensor(tensor).shape)
    if local_shape != part.shape:
        raise PlacementError(
            f"{name}: the local shard of {sharded.placements} has shape {local_shape}, not {part.shape}",
            hint="Shard the tensor with fully_shard(), parallelize_module() or distribute_tensor().",
        )
    return part


def local_tensor(tensor: Tensor) -> Tensor:
    """Return the local tensor of a distributed one, and any other as it is."""
    if not hasattr(tensor, "to_local"):
        return tensor
    local: Tensor = tensor.to_local()
    return local


def copy_part(tensor: Tensor, made: Tensor) -> None:
    """Write the local part of a tensor."""
    memory = local_tensor(tensor)
    with torch.inference_mode(memory.is_inference()), torch.no_grad():
        memory.copy_(made.to(memory.device))


def computed_by(source: nn.Module) -> dict[str, Tensor]:
    """Return by name what only the constructor of a pack's model can compute, and the recipe."""
    computed = dict(computed_tensors(source))
    computed |= {name: buffer for name, buffer in source.named_buffers() if name.rpartition(".")[2] == recipe.BUFFER}
    return {
        name: tensor for name, tensor in computed.items() if not tensor.is_meta and not hasattr(tensor, "device_mesh")
    }


def give_computed(model: nn.Module, computed: dict[str, Tensor], device: torch.device) -> None:
    """Give a model what the pack's constructor computed."""
    modules = {plain_name(name): module for name, module in model.named_modules(remove_duplicate=False)}
    for name, value in computed.items():
        prefix, _, leaf = name.rpartition(".")
        module = modules.get(prefix)
        if module is None:
            continue
        buffer = module._buffers.get(leaf)
        if buffer is not None and hasattr(buffer, "device_mesh"):  # parallelize_module() distributes buffers too
            copy_part(buffer, held_part(name, buffer).take(value))
        elif leaf in module._buffers:
            module._buffers[leaf] = value.to(device)
        elif leaf in dict(attributes(module)):
            set_attribute(module, leaf, value.to(device))
