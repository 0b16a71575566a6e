"""Turn an open pack into an empty module and into tensors: generated, read, or both merged."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from lottapack import arch, rng
from lottapack.arch.bits import flat_bytes
from lottapack.arch.budget import Budget
from lottapack.arch.computed_dtypes import cast_computed
from lottapack.arch.skeleton import shapes_of
from lottapack.errors import ArchitectureError, IntegrityError, Problem
from lottapack.format import dtypes
from lottapack.format.descriptor import Adapted, Constant, Descriptor, Seeded, Stored, Tied
from lottapack.format.packfile import Held, PackFile
from lottapack.format.shapes import numel
from lottapack.weights.constructed import constructed_weights, fill_constructed, is_constructed
from lottapack.weights.merge import Backbone, merge_adapter_into

_PIECE: Final = 1 << 19
"""The elements held in the recorded dtype at a time while a weight is generated in another dtype."""


def skeleton(descriptor: Descriptor, max_bytes: int | None = None) -> nn.Module:
    """Return the empty module of a descriptor.

    ``max_bytes``: as in load(); what the constructor computes counts too. Raises ArchitectureError if the module does
    not have the declared parameters, LimitError if building it costs more than these justify.
    """
    model = arch.build(descriptor.architecture, Budget.of_descriptor(descriptor, max_bytes))
    shapes = shapes_of(model)
    declared = descriptor.parameters
    wrong = sorted(shapes.keys() ^ declared.keys())
    for name, shape in shapes.items():
        owner = declared[descriptor.resolve(name)] if name in declared else None
        if owner is not None and not isinstance(owner, Tied) and owner.shape != shape:
            wrong.append(name)
    if wrong:
        raise ArchitectureError(
            f"{descriptor.architecture.class_} as built here does not have the packed parameters: "
            f"{', '.join(wrong[:5])} differ",
            hint="Install the version of the library that the pack names in its provenance.",
        )
    return cast_computed(model, descriptor.computed or {}, descriptor.architecture.class_)


def stored_memory(pack: PackFile, held: Held, device: torch.device, dtype: torch.dtype | None = None) -> Tensor | None:
    """Return uninitialised memory for the result of stored_tensor(), or None if that reads into other memory first."""
    recorded, shape = pack.form(held)
    wanted = _wanted(recorded, dtype)
    in_place = device.type == "cpu" and (wanted == dtypes.torch_dtype(recorded) or pack.as_it_is(held) is not None)
    return torch.empty(shape, dtype=wanted, device="cpu") if in_place else None


def stored_tensor(
    pack: PackFile,
    held: Held,
    device: torch.device,
    dtype: torch.dtype | None = None,
    memory: Tensor | None = None,
) -> Tensor:
    """Return a stored parameter, decoded if it is coded, or a tensor of the file; check its SHA-256.

    ``dtype``: converts a floating tensor before it goes to the device, so that the device never holds it twice. The CPU
    does not either: it converts piece by piece, except for coded parameters. ``memory``: of stored_memory().
    """
    recorded, shape = pack.form(held)
    wanted = _wanted(recorded, dtype)
    in_pieces = None if wanted == dtypes.torch_dtype(recorded) else pack.as_it_is(held)
    if memory is None:
        read_as = wanted if in_pieces is not None else dtypes.torch_dtype(recorded)
        memory = torch.empty(shape, dtype=read_as, device="cpu")
    if in_pieces is not None:
        flat, done = memory.view(-1), 0
        for piece in pack.pieces(in_pieces):
            part = torch.frombuffer(piece, dtype=dtypes.torch_dtype(recorded))
            flat[done : done + part.numel()] = part
            done += part.numel()
    else:
        pack.read_into(held, tensor_bytes(memory))
    return memory.to(wanted).to(device)


def tensor_bytes(tensor: Tensor) -> Any:
    """Return the memory of a contiguous CPU tensor as bytes, because NumPy does not have bfloat16."""
    return flat_bytes(tensor).numpy().data if tensor.numel() else b""


def constant_tensor(
    entry: Constant, device: torch.device, shape: tuple[int, ...] | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Return a tensor of one value, given by its bits, in the entry's shape or another.

    ``dtype``: converts a floating value.
    """
    shape = entry.shape if shape is None else shape
    bits = np.frombuffer(bytes.fromhex(entry.value)[::-1], np.uint8).copy()
    value = torch.from_numpy(bits).view(dtypes.torch_dtype(entry.dtype)).to(_wanted(entry.dtype, dtype))
    return value.to(device).expand(1).reshape([1] * len(shape)).expand(shape).contiguous()


def empty_backbone(pack: PackFile, name: str, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Return uninitialised memory for a backbone weight, in its recorded dtype or another."""
    entry = _generated(pack, name)
    return torch.empty(entry.shape, dtype=_wanted(entry.dtype, dtype), device=device)


def generate(pack: PackFile, name: str, weight: Tensor, *, check: bool = False) -> Tensor:
    """Generate a backbone weight into its memory, whose dtype may differ from the recorded one; return it.

    ``check``: compare the fingerprint. Uses the memory of one piece of the weight in addition.
    """
    if is_constructed(pack):
        return fill_constructed(pack, name, weight)
    if is_recorded_dtype(pack, name, weight):
        rng.fill_(weight, pack.source(name))
        if check:
            _check(pack, name, rng.fingerprint(weight))
        return weight
    if check:
        check_generated(pack, name, weight.device)
    flat, backbone = weight.view(-1), _backbone(pack, name, weight.device)
    for first in range(0, flat.numel(), _PIECE):
        last = min(first + _PIECE, flat.numel())
        flat[first:last] = backbone(first, last)
    return weight


def generate_all(pack: PackFile, weights: Mapping[str, Tensor], *, check: bool = False) -> None:
    """Generate several weights in their recorded dtypes like generate(); at once if the device can."""
    if is_constructed(pack):
        for name, weight in weights.items():
            fill_constructed(pack, name, weight)
        return
    computed = rng.fill_all_([(weight, pack.source(name)) for name, weight in weights.items()], fingerprints=check)
    for name, fingerprint in zip(weights, computed, strict=check):
        _check(pack, name, fingerprint)


def is_recorded_dtype(pack: PackFile, name: str, weight: Tensor) -> bool:
    """Return whether a backbone weight has its recorded dtype."""
    return weight.dtype == dtypes.torch_dtype(_generated(pack, name).dtype)


def merge_generated_(pack: PackFile, name: str, weight: Tensor) -> Tensor:
    """Merge the adapter into a weight that was generated in its recorded dtype, in place; return the weight."""
    entry = _generated(pack, name)
    if isinstance(entry, Adapted):
        merge_adapter_into(weight, None, adapter_tensors(pack, name, weight.device), entry)
    return weight


def generate_merged(pack: PackFile, name: str, weight: Tensor, *, check: bool = False) -> Tensor:
    """Generate like generate(), and merge the weight's adapter if it has one."""
    entry = _generated(pack, name)
    if not isinstance(entry, Adapted) or is_recorded_dtype(pack, name, weight):
        return merge_generated_(pack, name, generate(pack, name, weight, check=check))
    # Only a piece of the backbone at a time is in its recorded dtype.
    if check and not is_constructed(pack):
        check_generated(pack, name, weight.device)
    backbone = _backbone(pack, name, weight.device)
    merge_adapter_into(weight, backbone, adapter_tensors(pack, name, weight.device), entry)
    return weight


def _backbone(pack: PackFile, name: str, device: torch.device) -> Backbone:
    """Return a function that gives any elements of a weight."""
    if is_constructed(pack):
        flat = constructed_weights(pack)[name].view(-1)
        return lambda first, last: flat[first:last].to(device)
    source = pack.source(name)
    dtype = dtypes.torch_dtype(source.dtype)
    return lambda first, last: rng.fill_(torch.empty(last - first, dtype=dtype, device=device), source, first)


def check_generated(pack: PackFile, name: str, device: torch.device) -> None:
    """Check a weight's fingerprint with only one piece of it in memory. Raises IntegrityError."""
    _check(pack, name, *rng.fingerprints_on(device, [(pack.source(name), numel(_generated(pack, name).shape))]))


def _check(pack: PackFile, name: str, fingerprint: int) -> None:
    computed, recorded = rng.fingerprint_hex(fingerprint), _generated(pack, name).fingerprint
    if computed != recorded:
        where = pack.fingerprint_place(name)
        problem = Problem("fingerprint", where, f"was rebuilt with the fingerprint {computed}, recorded is {recorded}")
        hint = "The pack's descriptor was changed, or this device computes wrong bits. Try another device."
        raise IntegrityError(str(pack.path), [problem], hint=hint)


def _generated(pack: PackFile, name: str) -> Seeded | Adapted:
    entry = pack.descriptor.parameters[name]
    assert isinstance(entry, Seeded | Adapted)
    return entry


def _wanted(recorded: str, dtype: torch.dtype | None) -> torch.dtype:
    return dtype if dtype is not None and "float" in recorded else dtypes.torch_dtype(recorded)


def adapter_tensors(pack: PackFile, name: str, device: torch.device) -> dict[str, Tensor]:
    """Return the tensors of a parameter's adapter: ``lora_A``, ``lora_B`` and, if it has them, beta and magnitude."""
    return {part: stored_tensor(pack, info, device) for part, info in pack.adapter(name).items()}


def plain_tensor(
    pack: PackFile, name: str, device: torch.device, *, check: bool = False, dtype: torch.dtype | None = None
) -> Tensor:
    """Return an entry of the plain model's state_dict, with adapters merged and ties followed.

    It has its recorded dtype; floating ones have ``dtype`` if that is given.
    """
    name = pack.descriptor.resolve(name)
    entry = pack.descriptor.parameters[name]
    if isinstance(entry, Stored):
        return stored_tensor(pack, name, device, dtype)
    if isinstance(entry, Constant):
        return constant_tensor(entry, device, dtype=dtype)
    return generate_merged(pack, name, empty_backbone(pack, name, device, dtype), check=check)
