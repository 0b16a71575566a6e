"""A pack's merged weights as NumPy arrays, for JAX, MLX, ONNX and whoever has no torch."""

from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from lottapack import rng
from lottapack.errors import UnsupportedError
from lottapack.format.descriptor import Adapted, Constant, Seeded, Stored, Tied
from lottapack.format.packfile import PackFile
from lottapack.format.shapes import numel
from lottapack.limits import check_memory
from lottapack.loading.reading import Reading
from lottapack.rng.backends import numba_works
from lottapack.rng.stream import ITEM_BITS, Source
from lottapack.rng.tables import check_scale
from lottapack.rng.threads import PIECE, default, run_all
from lottapack.weights.merge_arrays import merge_adapter

__all__ = ["load"]

Array = npt.NDArray[Any]


def load(
    path: str | PathLike[str],
    *,
    scaffold: str | None = None,
    max_bytes: int | None = None,
    require_signature: str | PathLike[str] | None = None,
) -> dict[str, Array]:
    """The merged weights of a pack by name, without importing torch or building a model.

    Every entry of the plain model's ``state_dict``, with the bits of ``load(path, merge=True).state_dict()``. NumPy has
    no bfloat16: such tensors come as float32, which holds each of their values exactly (so a conversion back to
    bfloat16 is exact too). All others keep their recorded dtype. Tied entries are one array.

    Args:
        path: the pack, or a reference as in load().
        scaffold: on which of the pack's scaffolds; by default on that of its main seed.
        max_bytes: the most memory that the arrays may take; by default what is free.
        require_signature: a public key in PEM, as in load().

    Raises:
        FormatError, IntegrityError, LimitError, DeviceError; ScaffoldError for a scaffold that the pack does not hold;
        UnsupportedError for a pack whose weights only torch can draw. With require_signature SignatureError,
        InvalidKeyError. For a reference also InvalidReferenceError, RegistryError.
    """
    with Reading(scaffold, require_signature=require_signature).open(path) as pack:
        if pack.descriptor.rng.id == rng.TORCH_CPU:
            raise UnsupportedError(
                f"{path}: its weights were drawn by torch, and nothing else draws them",
                hint="Export it where torch is, and read the safetensors file.",
            )
        entries = pack.descriptor.parameters
        own = {name: entry for name, entry in entries.items() if not isinstance(entry, Tied)}
        needed = sum(numel(entry.shape) * _dtype(entry.dtype).itemsize for entry in own.values())
        check_memory(str(path), needed, max_bytes)
        names = sorted(own, key=lambda name: -numel(own[name].shape))
        arrays = dict(run_all([partial(_named, pack, name) for name in names], default()))
        return {name: arrays[pack.descriptor.resolve(name)] for name in entries}


def _named(pack: PackFile, name: str) -> tuple[str, Array]:
    return name, _array(pack, name)


def _array(pack: PackFile, name: str) -> Array:
    """One entry that is not tied, adapters merged."""
    entry = pack.descriptor.parameters[name]
    if isinstance(entry, Stored):
        return _seen(pack.read(name), entry.dtype)
    if isinstance(entry, Constant):
        bits = np.frombuffer(bytes.fromhex(entry.value)[::-1], f"<u{len(entry.value) // 2}")
        return np.full(entry.shape, _seen(bits, entry.dtype)[0])
    assert isinstance(entry, Seeded | Adapted)
    bits = np.empty(numel(entry.shape), f"u{ITEM_BITS[entry.dtype] // 8}")
    _generate(bits, pack.source(name))
    weight = _seen(bits, entry.dtype).reshape(entry.shape)
    if isinstance(entry, Seeded):
        return weight
    adapter = {part: _seen(pack.read(info), info.dtype).astype(np.float32) for part, info in pack.adapter(name).items()}
    return _rounded(merge_adapter(weight.astype(np.float32, copy=False), adapter, entry), entry.dtype)


def _generate(bits: Array, source: Source) -> None:
    """Fill ``bits``; without numba by the reference, because rng.fill_bits() would then import torch."""
    if numba_works():
        rng.fill_bits(bits, source)
        return
    from lottapack.rng import reference

    check_scale(source.table, source.scale, source.dtype)
    for start in range(0, bits.size, PIECE):
        part = bits[start : start + PIECE]
        part[:] = reference.elements(source, start, part.size)


def _dtype(recorded: str) -> np.dtype[Any]:
    return np.dtype("float32" if recorded == "bfloat16" else recorded)


def _seen(bits: Array, recorded: str) -> Array:
    """Bits, or an array of the recorded dtype, as a caller sees them."""
    if recorded == "bfloat16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return bits.view(recorded)


def _rounded(values: npt.NDArray[np.float32], recorded: str) -> Array:
    """Rounded to the recorded dtype, nearest, ties to even."""
    if recorded == "bfloat16":
        bits = values.view(np.uint32)
        upper = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) & np.uint32(0xFFFF0000)
        return np.where(np.isnan(values), np.float32(np.nan), upper.view(np.float32))
    with np.errstate(all="ignore"):
        return values.astype(recorded, copy=False)
