"""load(): from a pack to a ready module."""

from concurrent.futures import ThreadPoolExecutor
from os import PathLike

import torch
from torch import Tensor, nn

from lottapack import arch
from lottapack.arch.skeleton import computed_buffers, shapes_of
from lottapack.device import resolve
from lottapack.errors import ArchitectureError
from lottapack.format import dtypes, recipe
from lottapack.format.descriptor import Adapted, Constant, Descriptor, Seeded, Stored, Tied
from lottapack.format.packfile import PackFile, open_pack
from lottapack.limits import check_memory
from lottapack.nn.attach import attach, locate, place, tie_all
from lottapack.nn.select import entries_of
from lottapack.rebuild import adapter_tensors, constant_tensor, generated_tensor, plain_tensor, stored_tensor


@torch.no_grad()
def load(
    path: str | PathLike[str],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    merge: bool = False,
    check_fingerprints: bool = False,
    max_bytes: int | None = None,
) -> nn.Module:
    """Rebuild the model of a pack on a device, in evaluation mode. The backbone has the same bits on every device.

    Args:
        path: the pack.
        device: where the weights are generated, in place.
        dtype: converts floating tensors from their recorded dtype; None keeps it.
        merge: return the plain model with merged weights; otherwise layers keep their adapters and can be trained on.
        check_fingerprints: compare every rebuilt tensor with its fingerprint. (The SHA-256 of each tensor in the
            file is always checked.)
        max_bytes: the largest model to accept; by default the device's free memory.

    Raises:
        FormatError, IntegrityError, LimitError, ArchitectureError, UnsupportedError, DeviceError.
    """
    target = resolve(device)
    name = None if dtype is None else dtypes.floating_name(dtype)
    with open_pack(path) as pack:
        check_memory(str(path), pack.declared_bytes(name), max_bytes, target)
        model = skeleton(pack.descriptor)
        groups = {entry.name: entry.group for entry in entries_of(model, arch.family_of(model).heads(model))}
        plan = recipe.of_descriptor(pack.descriptor, pack.tables, groups)
        if not merge:
            attach(model, plan)
        for prefix, leaf, tensor in _tensors(pack, target, merge, check_fingerprints):
            module = model.get_submodule(prefix)
            place(module, leaf, tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor)
    tie_all(model, plan)
    for buffer_name, buffer in list(computed_buffers(model)):
        module, leaf = locate(model, buffer_name)
        module._buffers[leaf] = buffer.to(target)
    if not merge:
        model._buffers[recipe.BUFFER] = model.get_buffer(recipe.BUFFER).to(target)
    return model.eval()


def skeleton(descriptor: Descriptor) -> nn.Module:
    """The empty module of a descriptor. Raises ArchitectureError where it does not have the declared parameters."""
    model = arch.build(descriptor.architecture)
    shapes = shapes_of(model)
    declared = descriptor.parameters
    wrong = sorted(shapes.keys() ^ declared.keys())
    for name, shape in shapes.items():
        owner = declared[descriptor.resolve(name)] if name in declared else None
        if owner is not None and not isinstance(owner, Tied) and owner.shape != shape:
            wrong.append(name)
    if wrong:
        raise ArchitectureError(
            f"{descriptor.architecture.class_} as built here has other parameters than packed: {', '.join(wrong[:5])}",
            hint="The library may be another version than the one that the pack names in its provenance.",
        )
    return model


def _tensors(pack: PackFile, device: torch.device, merge: bool, check: bool) -> "list[tuple[str, str, Tensor]]":
    """Each tensor with the module and name it belongs to."""
    entries = pack.descriptor.parameters
    found: list[tuple[str, str, Tensor]] = []

    def add(name: str, tensor: Tensor) -> None:
        prefix, _, leaf = name.rpartition(".")
        found.append((prefix, leaf, tensor))

    # Stored tensors are read and hashed beside the generator: hashing runs at about the speed of generating.
    with ThreadPoolExecutor(1) as reader:
        stored = {n: reader.submit(stored_tensor, pack, n, device) for n, e in entries.items() if isinstance(e, Stored)}
        for name, entry in entries.items():
            if isinstance(entry, Constant):
                add(name, constant_tensor(entry, device))
            elif isinstance(entry, Seeded | Adapted) and merge:
                add(name, plain_tensor(pack, name, device, check=check))
            elif isinstance(entry, Seeded | Adapted):
                add(name, generated_tensor(pack, name, device, check=check))
                if isinstance(entry, Adapted):
                    prefix = name.rpartition(".")[0]
                    found += [(prefix, part, tensor) for part, tensor in adapter_tensors(pack, name, device).items()]
        for name, future in stored.items():
            add(name, future.result())
    return found
