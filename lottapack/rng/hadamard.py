"""Rows of a Hadamard matrix with random signs: the index of an element from its position (spec: stream, section 6).

Both codes of an element contain a random sign in two separate bits, so that one parity gives its index.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lottapack.errors import UnsupportedError
from lottapack.rng import reference
from lottapack.rng.runs import Integers
from lottapack.rng.stream import PLACES, WORDS, Source, stream_of
from lottapack.rng.tables import scaled_bits

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
Codes = npt.NDArray[np.uint32]

_PIECE: Final = 1 << 16
"""The number of elements generated at once, so that they stay in the cache."""


def order(rows: int, columns: int) -> int:
    """Return the order of the Hadamard matrix for a matrix of this size: a power of two."""
    long, short = max(rows, columns), min(rows, columns)
    dividing = long & -long
    return dividing if dividing >= short else 1 << (long - 1).bit_length()


@lru_cache(maxsize=8)
def _codes(seed: int, name: str, rows: int, columns: int) -> tuple[Codes, Codes]:
    """Return codes along the longer side, shape (long,), and along the shorter side by tile, shape (tiles, short)."""
    long, short, size = max(rows, columns), min(rows, columns), order(rows, columns)
    tiles = -(-long // size)
    found: tuple[Codes, Codes] = np.empty(long, np.uint32), np.empty((tiles, short), np.uint32)
    stream, key = stream_of(name), (seed & 0xFFFFFFFF, seed >> 32)
    a, b, c, d = reference.philox4x32((PLACES & 0xFFFFFFFF, PLACES >> 32, stream & 0xFFFFFFFF, stream >> 32), key)
    signs = _signs(stream, key, long + tiles * short)
    along, across = np.arange(long, dtype=np.uint64) % size, np.arange(short, dtype=np.uint64)
    found[0][:] = ((along * (a | 1) + b) % size) << 2 | 2 | signs[:long]
    found[1][:] = ((across * (c | 1) + d) % size) << 2 | 1 | signs[long:].reshape(tiles, short) << 1
    for codes in found:
        codes.flags.writeable = False
    return found


def _signs(stream: int, key: tuple[int, int], count: int) -> Array:
    """Return the first ``count`` elements of one bit: shape (count,), uint64."""
    blocks = np.arange(-(-count // (32 * WORDS)), dtype=np.uint64)[:, None]
    words = reference.words_of(stream, key, *np.broadcast_arrays(blocks, np.arange(WORDS, dtype=np.uint64)))
    fields: Array = words[:, None, :] >> np.arange(32, dtype=np.uint64)[:, None] & 1
    return fields.reshape(-1)[:count]


def codes_of(source: Source) -> tuple[Codes, Codes]:
    """Return the codes of a source's matrix. Raises UnsupportedError for a scale that does not fit."""
    assert source.matrix is not None
    return _codes(source.seed, source.name, *source.matrix)


def pieces(source: Source, start: int, count: int) -> Iterator[tuple[int, int, slice, slice]]:
    """Divide elements into parts of rows: each as (first, last, rows, columns), whole rows or a part of one.

    ``first`` and ``last``: positions relative to ``start``. Raises UnsupportedError for elements beyond the matrix.
    """
    assert source.matrix is not None
    rows, columns = source.matrix
    if start + count > rows * columns:
        raise UnsupportedError(
            f"{source.name!r}: elements {start} to {start + count} exceed a matrix of {rows} x {columns}",
            hint="Pass the shape of the whole matrix, since elements of this distribution depend on it.",
        )
    at = start
    while at < start + count:
        row, column = divmod(at, columns)
        left = start + count - at
        if column or left < columns or columns > _PIECE:
            width = min(columns - column, left, _PIECE)
            part = slice(row, row + 1), slice(column, column + width)
        else:
            height = min(left // columns, max(1, _PIECE // columns))
            part, width = (slice(row, row + height), slice(0, columns)), height * columns
        yield at - start, at - start + width, *part
        at += width


def fill_bits(out: Array, source: Source, start: int) -> None:
    """Fill ``out``, shape (n,), with the bits of elements from index ``start`` on."""
    assert source.matrix is not None
    entries = scaled_bits(source.table, source.scale, source.dtype)
    if not out.size:
        return
    along, across = codes_of(source)
    rows, columns = source.matrix
    size = order(rows, columns)
    shift, sign = 8 * out.itemsize - 1, entries[1]
    for first, last, row, column in pieces(source, start, out.size):
        if columns >= rows:
            tile = np.arange(column.start, column.stop) // size
            other = across[:1, row].T if len(across) == 1 else across[:, row].T[:, tile]
            both = along[column] & other
        else:
            both = along[row, None] & across[np.arange(row.start, row.stop) // size, column]
        odd = np.bitwise_count(both) & 1
        out[first:last] = (odd.astype(out.dtype) ^ 1).reshape(-1) << shift | sign


def fill(tensor: "torch.Tensor", source: Source, start: int) -> None:
    """Fill a contiguous tensor of the source's dtype, on any device, with elements from index ``start`` on."""
    import torch

    if tensor.device.type == "cpu":
        flat = tensor.detach().view(-1).view(torch.int32 if tensor.element_size() == 4 else torch.int16)
        fill_bits(flat.numpy().view(f"u{tensor.element_size()}"), source, start)
    else:
        fill_by_torch(tensor, source, start)


def fill_by_torch(tensor: "torch.Tensor", source: Source, start: int) -> None:
    """Fill a tensor as fill() does, with plain torch operations."""
    import torch

    wide = tensor.element_size() == 4
    flat = tensor.detach().view(-1).view(torch.int32 if wide else torch.int16)
    if not flat.numel():
        return
    assert source.matrix is not None
    entries = scaled_bits(source.table, source.scale, source.dtype)
    bits = torch.from_numpy(entries.view(np.int32 if wide else np.int16).copy()).to(flat.device)
    along, across = (torch.from_numpy(codes.astype(np.int64)).to(flat.device) for codes in codes_of(source))
    rows, columns = source.matrix
    size = order(rows, columns)
    for first, last, row, column in pieces(source, start, flat.numel()):
        i = torch.arange(row.start, row.stop, dtype=torch.int64, device=flat.device)[:, None]
        j = torch.arange(column.start, column.stop, dtype=torch.int64, device=flat.device)
        long, short = (j, i) if columns >= rows else (i, j)
        both = along[long] & across[long // size, short]
        for by in (16, 8, 4, 2, 1):
            both = both ^ (both >> by)
        flat[first:last] = bits[(both & 1).reshape(-1)]


def fill_runs(tensor: "torch.Tensor", source: Source, starts: Integers, lengths: Integers) -> None:
    """Fill a contiguous tensor with runs of elements, one after the other."""
    flat, done = tensor.view(-1), 0
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        fill(flat[done : done + length], source, start)
        done += length
