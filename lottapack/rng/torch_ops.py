"""The stream in plain torch operations on int64, for any device of torch.

Sums, products and left shifts of int64 are those of unsigned integers modulo 2**64; right shifts are masked.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lottapack.rng.runs import Integers
from lottapack.rng.stream import COUNTERS, MULTIPLIERS, ROUNDS, WEYL, WORDS, Source
from lottapack.rng.tables import scaled_bits

CHUNK: Final = 1 << 20
"""The elements made at a time: under 32 MiB of temporary memory, and a multiple of any block's elements."""

_LOW32: Final = 0xFFFFFFFF
_INTEGERS: Final = {4: torch.int32, 2: torch.int16}


def fill(tensor: Tensor, source: Source, start: int) -> None:
    """Fill ``tensor`` (contiguous, of the source's dtype) with elements from index ``start`` on (spec: stream)."""
    flat = _bits(tensor)
    table = _table(source, tensor.device)
    k, served = source.table.bits, WORDS * source.fields
    shifts = torch.arange(0, 32, k, dtype=torch.int64, device=tensor.device)[None, :, None]
    for lo, hi in _chunks(flat.numel(), start, CHUNK):
        block, skip = divmod(start + lo, served)
        blocks = torch.arange(-(-(skip + hi - lo) // served), dtype=torch.int64, device=tensor.device) + block
        words = _words(source, blocks)
        index = ((words[:, None, :] >> shifts) & (2**k - 1)).flatten()
        flat[lo:hi] = table[index[skip : skip + hi - lo]]


def fill_runs(tensor: Tensor, source: Source, starts: Integers, lengths: Integers) -> None:
    """Fill ``tensor`` (contiguous, of the source's dtype) with runs of elements, one after another.

    ``starts``, ``lengths``: shape (n,), int64: the index of each run's first element, ascending, and its number of
    elements.
    """
    flat, table, served = _bits(tensor), _table(source, tensor.device), WORDS * source.fields
    ends = np.cumsum(lengths)
    first = 0
    while first < starts.size:
        done = int(ends[first] - lengths[first])
        last = max(first + 1, int(np.searchsorted(ends, done + CHUNK, "right")))
        begin, count = (torch.from_numpy(a[first:last].copy()).to(flat.device) for a in (starts, lengths))
        place = torch.arange(int(ends[last - 1]) - done, dtype=torch.int64, device=flat.device)
        number = place + torch.repeat_interleave(begin - count.cumsum(0) + count, count)
        blocks, which = torch.unique_consecutive(number // served, return_inverse=True)
        for at in range(0, blocks.numel(), CHUNK // WORDS):
            words = _words(source, blocks[at : at + CHUNK // WORDS])
            borders = torch.tensor([at, at + words.shape[0]], dtype=torch.int64, device=flat.device)
            lo, hi = torch.searchsorted(which, borders).tolist()
            within = number[lo:hi] % served
            index = words[which[lo:hi] - at, within & (WORDS - 1)] >> (source.table.bits * (within // WORDS))
            flat[done + lo : done + hi] = table[index & (2**source.table.bits - 1)]
        first = last


def fingerprint(tensor: Tensor, start: int) -> int:
    """Return the fingerprint of contiguous ``tensor``, whose first element has index ``start`` (spec: fingerprint)."""
    flat = _bits(tensor)
    mask = (1 << 8 * tensor.element_size()) - 1
    total = 0
    for lo, hi in _chunks(flat.numel(), start, CHUNK):
        i = torch.arange(hi - lo, dtype=torch.int64, device=tensor.device) + signed(start + lo)
        z = (flat[lo:hi].long() & mask) ^ (i * signed(0x9E3779B97F4A7C15))
        z = (z ^ _shift_right(z, 30)) * signed(0xBF58476D1CE4E5B9)
        z = (z ^ _shift_right(z, 27)) * signed(0x94D049BB133111EB)
        total += int((z ^ _shift_right(z, 31)).sum())
    return total % 2**64


def _table(source: Source, device: torch.device) -> Tensor:
    """Return the bits of every possible element, as signed integers."""
    bits = scaled_bits(source.table, source.scale, source.dtype)
    return torch.from_numpy(bits.view(f"i{bits.itemsize}").copy()).to(device)


def _words(source: Source, blocks: Tensor) -> Tensor:
    """Return the words of blocks by their numbers, shape (n,), int64: shape (n, 1024), int64, each below 2**32."""
    j = (blocks[:, None] * COUNTERS + torch.arange(COUNTERS, dtype=torch.int64, device=blocks.device)).flatten()
    c0, c1 = j & _LOW32, j >> 32
    k0, k1, *stream = source.halves
    c2, c3 = (torch.full_like(j, half) for half in stream)
    for _ in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1 = _shift_right(p1, 32) ^ c1 ^ k0, p1 & _LOW32
        c2, c3 = _shift_right(p0, 32) ^ c3 ^ k1, p0 & _LOW32
        k0, k1 = (k0 + WEYL[0]) & _LOW32, (k1 + WEYL[1]) & _LOW32
    return torch.stack([lane.view(-1, COUNTERS) for lane in (c0, c1, c2, c3)], dim=1).view(-1, WORDS)


def _chunks(count: int, start: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut [0, count) where ``start`` plus the offset is a multiple of ``size``."""
    lo = 0
    while lo < count:
        hi = min(count, lo + size - (start + lo) % size)
        yield lo, hi
        lo = hi


def _bits(tensor: Tensor) -> Tensor:
    bits: Tensor = tensor.detach().view(-1).view(_INTEGERS[tensor.element_size()])
    return bits


def signed(x: int) -> int:
    """Return a number of 64 bits as a signed one of the same bits."""
    return (x + 2**63) % 2**64 - 2**63


def _shift_right(z: Tensor, by: int) -> Tensor:
    shifted: Tensor = (z >> by) & (2 ** (64 - by) - 1)
    return shifted
