"""From an opened pack to an empty module, and to tensors: generated, read, or both merged."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lottapack import arch, rng
from lottapack.arch.skeleton import shapes_of
from lottapack.constructed import fill_constructed, is_constructed
from lottapack.errors import ArchitectureError, IntegrityError, Problem
from lottapack.format import dtypes
from lottapack.format.descriptor import Adapted, Constant, Descriptor, Seeded, Stored, Tied, adapter_prefix
from lottapack.format.packfile import PackFile
from lottapack.merge import merge_adapter


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


def stored_tensor(pack: PackFile, name: str, device: torch.device) -> Tensor:
    """A tensor of the file, or a coded parameter, decoded; its SHA-256 checked."""
    dtype, shape = pack.form(name)
    tensor = torch.empty(shape, dtype=dtypes.torch_dtype(dtype))
    pack.read_into(name, tensor_bytes(tensor))
    return tensor.to(device)


def tensor_bytes(tensor: Tensor) -> Any:
    """The memory of a contiguous CPU tensor, as bytes, because NumPy has no bfloat16."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b""


def constant_tensor(entry: Constant, device: torch.device, shape: tuple[int, ...] | None = None) -> Tensor:
    """A tensor of one value, given by its bits; of the entry's shape, or of another."""
    shape = entry.shape if shape is None else shape
    bits = np.frombuffer(bytes.fromhex(entry.value)[::-1], np.uint8).copy()
    value = torch.from_numpy(bits).view(dtypes.torch_dtype(entry.dtype))
    return value.to(device).expand(1).reshape([1] * len(shape)).expand(shape).contiguous()


def empty_backbone(pack: PackFile, name: str, device: torch.device) -> Tensor:
    """Memory for a backbone weight in its recorded dtype."""
    entry = pack.descriptor.parameters[name]
    assert isinstance(entry, Seeded | Adapted)
    return torch.empty(entry.shape, dtype=dtypes.torch_dtype(entry.dtype), device=device)


def generate(pack: PackFile, name: str, weight: Tensor, *, check: bool = False) -> Tensor:
    """Generate a backbone weight into its memory; return it. ``check``: compare the fingerprint."""
    entry = pack.descriptor.parameters[name]
    assert isinstance(entry, Seeded | Adapted)
    if is_constructed(pack):
        return fill_constructed(pack, name, weight)
    rng.fill_(weight, pack.source(name))
    if check:
        found = rng.fingerprint_hex(rng.fingerprint(weight))
        if found != entry.fingerprint:
            where = pack.fingerprint_place(name)
            problem = Problem("fingerprint", where, f"rebuilt with fingerprint {found}, recorded {entry.fingerprint}")
            hint = "The pack's descriptor was changed, or this device computes wrong bits: try another device."
            raise IntegrityError(str(pack.path), [problem], hint=hint)
    return weight


def adapter_tensors(pack: PackFile, name: str, device: torch.device) -> dict[str, Tensor]:
    """The adapter of a parameter: ``lora_A``, ``lora_B`` and, where it is learned, ``beta``."""
    entry = pack.descriptor.parameters[name]
    assert isinstance(entry, Adapted)
    return {part: stored_tensor(pack, adapter_prefix(name) + part, device) for part in entry.adapter.tensors()}


def plain_tensor(pack: PackFile, name: str, device: torch.device, *, check: bool = False) -> Tensor:
    """The entry of the plain model's state_dict in its recorded dtype, adapters merged, ties followed."""
    name = pack.descriptor.resolve(name)
    entry = pack.descriptor.parameters[name]
    if isinstance(entry, Stored):
        return stored_tensor(pack, name, device)
    if isinstance(entry, Constant):
        return constant_tensor(entry, device)
    weight = generate(pack, name, empty_backbone(pack, name, device), check=check)
    if isinstance(entry, Adapted):
        weight = merge_adapter(weight, adapter_tensors(pack, name, device), entry)
    return weight
