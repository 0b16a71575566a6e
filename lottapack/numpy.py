"""Merged weights and random tensors as NumPy arrays, for JAX, MLX, ONNX and other programs without torch."""

from collections.abc import Sequence
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from lottapack import rng
from lottapack.errors import UnsupportedError
from lottapack.format.descriptor import Tied
from lottapack.format.dtypes import ITEMSIZE
from lottapack.format.packfile import PackFile
from lottapack.format.shapes import numel
from lottapack.limits import check_memory
from lottapack.loading.reading import Reading
from lottapack.rng.stream import ITEM_BITS
from lottapack.rng.threads import default, run_all
from lottapack.weights.arrays import numpy_dtype, values, whole
from lottapack.weights.drawing import check_size, checked
from lottapack.weights.loaded_size import largest_drawn

__all__ = ["draw", "load"]

Array = npt.NDArray[Any]


def load(
    path: str | PathLike[str],
    *,
    scaffold: str | None = None,
    max_bytes: int | None = None,
    require_signature: str | PathLike[str] | None = None,
) -> dict[str, Array]:
    """Load the merged weights of a pack by name, without importing torch or building a model.

    The result has every entry of the plain model's ``state_dict``, with the bits of
    ``load(path, merge=True).state_dict()``. NumPy does not have bfloat16: such tensors become float32, which holds each
    of their values exactly, so that converting them back to bfloat16 is exact too. All other tensors keep their
    recorded dtype. Tied entries share one array.

    Args:
        path: the pack, or a reference as in load().
        scaffold: the name of one of the pack's scaffolds; by default that of its main seed.
        max_bytes: the most memory that the arrays may take; by default what is free.
        require_signature: a public key in PEM, as in load().

    Raises:
        UnsupportedError: only torch can draw the pack's weights.
        ScaffoldError: the pack does not hold the scaffold.
        LottapackError: and every other error that load() raises.

    Source:
        spec/v1/merge.md.

    Examples:
        >>> arrays = lottapack.numpy.load("model.lotta.safetensors")
        >>> arrays["0.weight"].shape, arrays["0.weight"].dtype
        ((32, 16), dtype('float32'))
    """
    with Reading(scaffold, require_signature=require_signature).open(path) as pack:
        arrays = loaded(pack, str(path), max_bytes)
        return {name: arrays[pack.descriptor.resolve(name)] for name in pack.descriptor.parameters}


def loaded(pack: PackFile, where: str, max_bytes: int | None) -> dict[str, Array]:
    """Return the merged weights of an open pack, without tied ones. ``where``: the pack, for messages."""
    refuse_torch(pack)
    own = {name: entry for name, entry in pack.descriptor.parameters.items() if not isinstance(entry, Tied)}
    needed = sum(numel(entry.shape) * _itemsize(entry.dtype) for entry in own.values())
    check_memory(where, needed + largest_drawn(pack, default()), max_bytes)
    names = sorted(own, key=lambda name: -numel(own[name].shape))
    return dict(run_all([partial(_named, pack, name, own[name].dtype) for name in names], default()))


def refuse_torch(pack: PackFile) -> None:
    """Raise UnsupportedError for a pack whose weights only torch can generate."""
    if pack.descriptor.rng.id == rng.TORCH_CPU:
        raise UnsupportedError(
            f"{pack.path}: its weights were drawn by torch and cannot be generated without it",
            hint="Export the pack on a machine with torch, and read the safetensors file.",
        )


def _itemsize(dtype: str) -> int:
    return ITEMSIZE["float32" if dtype == "bfloat16" else dtype]


def _named(pack: PackFile, name: str, dtype: str) -> tuple[str, Array]:
    return name, values(whole(pack, name), dtype)


def draw(
    name: str,
    shape: int | Sequence[int],
    *,
    seed: int,
    distribution: str | rng.Table = "normal16",
    scale: float = 1.0,
    dtype: str = "float32",
    start: int = 0,
) -> Array:
    """Draw one array of random weights: the numbers of ``lottapack.draw`` with the same arguments, without torch.

    Args:
        name: the stream's.
        shape: of the array.
        seed: 0 to 2**64 - 1.
        distribution: the id of a built-in table, or a Table.
        scale: what the table's values are multiplied by, rounded to binary32 first.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"``, to which each element is rounded once. The array of
            the last is float32, which holds each of its values exactly.
        start: the number of the first element.

    Raises:
        UnsupportedError: an argument is out of its range.
        LimitError: the array is larger than the free memory.
        DeviceError: this machine fails the known answers.

    Source:
        spec/v1/stream.md and spec/v1/tables.md.

    Examples:
        >>> lottapack.numpy.draw("layers.0.weight", (2, 3), seed=42, distribution="sign1").shape
        (2, 3)
    """
    source, sizes = checked(name, shape, seed, distribution, scale, dtype, start)
    check_size(name, source, sizes)
    bits = np.empty(numel(sizes), f"u{ITEM_BITS[source.dtype] // 8}")
    rng.fill_bits(bits, source, start)
    return values(bits.view(numpy_dtype(source.dtype)), source.dtype).reshape(sizes)
