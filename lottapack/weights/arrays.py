"""The tensors of the plain model as NumPy arrays, whole or in pieces, with merged adapters, without torch.

An array contains the recorded bits, with ``bfloat16`` as ``uint16``, since NumPy does not support it. ``values()`` and
``bits()`` convert between these and numbers.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from lottapack import rng
from lottapack.format.descriptor import FACTORS, Adapted, Constant, Seeded, Stored, Tied
from lottapack.format.factors import BY_INPUT, BY_OUTPUT, batch_dims_of
from lottapack.format.packfile import PackFile
from lottapack.format.shapes import numel
from lottapack.rng.stream import ITEM_BITS
from lottapack.rng.threads import default, run_all
from lottapack.weights.merge_arrays import merge_adapter

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

PIECE = 1 << 19
"""Elements of a piece that one thread generates: a few MiB."""


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the dtype of an array that holds a tensor of the recorded dtype."""
    return np.dtype("uint16" if name == "bfloat16" else name)


def values(array: Array, dtype: str) -> Array:
    """Return the numbers in an array of a recorded dtype; those of ``bfloat16`` as float32, which is exact."""
    if dtype == "bfloat16":
        wide = array.astype(np.uint32)
        wide <<= np.uint32(16)  # in place, or a single element would no longer be an array
        return wide.view(np.float32)
    return array


def bits(numbers: Array, dtype: str) -> Array:
    """Return numbers as an array of a recorded dtype, rounded to nearest, ties to even, through float32 if narrowed."""
    if "float" not in dtype or numbers.dtype == dtype:
        return numbers
    with np.errstate(all="ignore"):  # overflowing values become infinite
        if dtype == "float64":
            return numbers.astype(np.float64)
        wide: Floats = numbers.astype(np.float32, copy=False)
        if dtype != "bfloat16":
            return wide.astype(dtype, copy=False)
    word = np.ascontiguousarray(wide).view(np.uint32).reshape(wide.shape)
    rounded = (word + (np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    found: Array = np.where(np.isnan(wide), np.uint16(0x7FC0), rounded.astype(np.uint16))
    return found


def converted(array: Array, dtype: str, wanted: str) -> Array:
    """Return an array of one recorded dtype in another, which differs only between floating dtypes."""
    return array if dtype == wanted else bits(values(array, dtype), wanted)


def whole(pack: PackFile, name: str) -> Array:
    """Return one entry that is not tied, in its shape, with its adapter merged."""
    entry = pack.descriptor.parameters[name]
    assert not isinstance(entry, Tied)
    if isinstance(entry, Stored):
        return pack.read(name)
    if isinstance(entry, Constant):
        return np.full(entry.shape, _constant(entry))
    out: Array = np.empty(_rows_of(entry), numpy_dtype(entry.dtype))
    _make_rows(out, pack, name, _adapter(pack, name), 0)
    return out.reshape(entry.shape)


def rows(pack: PackFile, name: str, first: int, last: int) -> Array:
    """Return indices ``first`` to ``last - 1`` of the first dimension of a weight with an adapter, merged."""
    entry = pack.descriptor.parameters[name]
    assert isinstance(entry, Adapted)
    adapter = _adapter(pack, name)
    if "magnitude" in adapter and entry.fan_in_fan_out:
        return whole(pack, name)[first:last]
    each = numel(entry.shape[1 : batch_dims_of(entry) + 1])
    out: Array = np.empty(((last - first) * each, _row(entry)), numpy_dtype(entry.dtype))
    _make_rows(out, pack, name, adapter, first * each)
    return out.reshape(last - first, *entry.shape[1:])


def pieces(pack: PackFile, name: str) -> Iterator[Array]:
    """Yield the same as flat arrays, in row-major order, a few MiB at a time.

    The values are verified only after the last piece, when the hash is complete. A coded parameter is decoded
    whole, and a weight with magnitudes over the columns is generated whole, because each column needs all rows.
    """
    entry = pack.descriptor.parameters[name]
    assert not isinstance(entry, Tied)
    if isinstance(entry, Stored):
        info = pack.as_it_is(name)
        if info is None:
            yield pack.read(name).reshape(-1)
            return
        for piece in pack.pieces(info, PIECE * 8):
            yield np.frombuffer(piece, numpy_dtype(entry.dtype))
    elif isinstance(entry, Constant):
        value, count = _constant(entry), numel(entry.shape)
        for first in range(0, count, PIECE):
            yield np.full(min(PIECE, count - first), value)
    elif "magnitude" in (adapter := _adapter(pack, name)) and _over_columns(pack, name):
        yield whole(pack, name).reshape(-1)
    else:
        rows, row = _rows_of(entry)
        step = max(1, PIECE // max(1, row)) * default()
        for first in range(0, rows if row else 0, step):
            out: Array = np.empty((min(step, rows - first), row), numpy_dtype(entry.dtype))
            _make_rows(out, pack, name, adapter, first)
            yield out.reshape(-1)


def _rows_of(entry: Seeded | Adapted) -> tuple[int, int]:
    """Return the shape whose first axis is divided: without an adapter at any element, with one only between rows.

    The rows of a batch of matrices are those of all of them.
    """
    return (numel(entry.shape), 1) if isinstance(entry, Seeded) else (numel(entry.shape) // _row(entry), _row(entry))


def _row(entry: Adapted) -> int:
    """Return the elements of a row."""
    return numel(entry.shape[batch_dims_of(entry) + 1 :])


def _height(entry: Adapted) -> int:
    """Return the rows of a matrix."""
    return entry.shape[batch_dims_of(entry)]


def _make_rows(out: Array, pack: PackFile, name: str, adapter: Mapping[str, Floats], first: int) -> None:
    """Generate and merge the rows of a weight from index ``first`` on, divided among threads."""
    row = max(1, out.shape[1])
    entry = pack.descriptor.parameters[name]
    step = max(1, PIECE // row)
    if isinstance(entry, Adapted) and entry.fan_in_fan_out and "magnitude" in adapter:
        step = _height(entry)
    run_all(
        [
            partial(_make, out[at : at + step], pack, name, adapter, first + at)
            for at in range(0, len(out) if out.size else 0, max(1, step))
        ],
        default(),
    )


def _make(out: Array, pack: PackFile, name: str, adapter: Mapping[str, Floats], first: int) -> None:
    entry = pack.descriptor.parameters[name]
    assert isinstance(entry, Seeded | Adapted)
    start = first * max(1, out.shape[1])
    flat = out.reshape(-1)
    rng.fill_bits(flat.view(f"u{ITEM_BITS[entry.dtype] // 8}"), pack.source(name), start)
    if isinstance(entry, Adapted):
        weight = values(out, entry.dtype).astype(np.float32, copy=False)
        height, at = _height(entry), 0
        while at < len(out):
            number, row = divmod(first + at, height)
            count = min(height - row, len(out) - at)
            some = {part: _rows(_of_matrix(t, part, number), part, entry, row, count) for part, t in adapter.items()}
            out[at : at + count] = bits(merge_adapter(weight[at : at + count], some, entry), entry.dtype)
            at += count


def _of_matrix(tensor: Floats, part: str, number: int) -> Floats:
    """Return the part of an adapter's tensor for one matrix of a batch, or for the only one, or the shared tensor."""
    own = 2 if part in FACTORS else 1
    if tensor.ndim == own:
        return tensor
    matrix: Floats = tensor.reshape(-1, *tensor.shape[-own:])[number]
    return matrix


def _rows(tensor: Floats, part: str, entry: Adapted, first: int, count: int) -> Floats:
    """Return the part of an adapter's tensor for some rows of the weight."""
    if part in (BY_INPUT if entry.fan_in_fan_out else BY_OUTPUT):
        return tensor[..., first : first + count] if part == "lora_A" else tensor[first : first + count]
    return tensor


def _over_columns(pack: PackFile, name: str) -> bool:
    entry = pack.descriptor.parameters[name]
    return isinstance(entry, Adapted) and entry.fan_in_fan_out


def _adapter(pack: PackFile, name: str) -> dict[str, Floats]:
    """Return the tensors of a parameter's adapter by their last name, in float32; their hashes are checked."""
    return {
        part: values(pack.read(held), held.dtype).astype(np.float32, copy=False)
        for part, held in pack.adapter(name).items()
    }


def _constant(entry: Constant) -> Any:
    return np.frombuffer(bytes.fromhex(entry.value)[::-1], numpy_dtype(entry.dtype))[0]
