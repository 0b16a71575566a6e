"""The encoder of the block codings (spec: codings, section 8). Encoding decoded values gives the same codes again."""

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lottapack.codecs.base import BLOCK, LEVELS, wide_values
from lottapack.rng.tables import round_bits
from lottapack.rng.threads import default, spread

Floats = NDArray[np.float32]
Halves = NDArray[np.uint16]

_TOP = 127
_LARGEST = 0x7BFF  # the bits of the largest finite float16
_END_IN_FLOAT16 = 0x6007  # 515.5, the largest scale whose product with 127 fits float16
_TRIED = (1.0, 0.875, 0.9375, 1.0625, 1.125)
"""The scales of 4-bit blocks to try, relative to the one that maps the largest value to the largest level."""

_NEAR = {"float32": (0, 1), "float16": (-1, 0, 1, 2), "bfloat16": (-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5)}
"""How many float16 steps a block's scale can differ from what its largest decoded value suggests, by dtype."""

_LEVELS = np.array(LEVELS, np.float32)
_LAST_PLACE = np.float32(254)
# Twice the midpoints of the positive levels are integers, so the integer part of twice a magnitude gives its code.
_CODE = (8 + np.searchsorted([a + b for a, b in pairwise(LEVELS[8:])], np.arange(255), "right")).astype(np.uint8)
_POSITIVE = _LEVELS[_CODE]


def encode(values: Floats, dtype: str, codes_dtype: str) -> tuple[NDArray[Any], Halves]:
    """Return the codes, shape (n,), and scales (float16 bits) of finite values, shape (n,).

    ``dtype``: the parameter's dtype, which holds the values exactly.
    """
    count = len(values)
    codes = np.empty(-(-count // BLOCK) * BLOCK, codes_dtype)
    scales = np.empty(-(-count // BLOCK), np.uint16)
    rows = _Bytes if codes_dtype == "int8" else _Levels
    spread(0, count, partial(_encode_piece, rows, values, dtype, codes, scales), default())
    return codes[:count], scales


def _encode_piece(
    kind: "type[_Rows]", values: Floats, dtype: str, codes: NDArray[Any], scales: Halves, start: int, stop: int
) -> None:
    step = 512 * BLOCK  # so that the working data stays in the cache
    for first in range(start, stop, step):
        last = min(first + step, stop)
        rows = np.zeros((-(-(last - first) // BLOCK), BLOCK), np.float32)
        rows.reshape(-1)[: last - first] = values[first:last]
        tail = last - first - (len(rows) - 1) * BLOCK  # elements of the last block; the padding after them is ignored
        made, used = kind(dtype, rows, tail).encode()
        codes[first : first + made.size] = made.reshape(-1)
        scales[first // BLOCK : first // BLOCK + len(rows)] = used


class _Rows:
    """Blocks of a parameter, shape (blocks, 64); the last has ``tail`` elements."""

    def __init__(self, dtype: str, rows: Floats, tail: int) -> None:
        self.dtype, self.rows, self.tail = dtype, rows, tail

    def encode(self) -> tuple[NDArray[Any], Halves]:
        """Return codes and scales: exact for values that this coding decoded, else those with the least error."""
        scales, exact = self._exact(self.rows)
        if not exact.all():
            best = self._best()
            decoded = self._decode(self._codes(self.rows, best), best)
            canonical, repeats = self._again(decoded, best)
            scales = np.where(exact, scales, np.where(repeats, canonical, best))
            rows = np.where(exact[:, None], self.rows, decoded)
            return self._codes(rows, scales), scales
        return self._codes(self.rows, scales), scales

    def _exact(self, rows: Floats) -> tuple[Halves, NDArray[np.bool_]]:
        """Return the least scale near the largest value that gives each block exactly, and which blocks have one."""
        peaks = self._peaks(rows)
        middle = _round_up(peaks / np.float32(_TOP)).astype(np.int32)
        scales, exact = np.zeros(len(rows), np.uint16), peaks == 0
        for near in _NEAR[self.dtype]:
            tried = np.clip(middle + near, 1, self._end()).astype(np.uint16)
            left = np.flatnonzero(~exact)
            # The first elements reveal nearly all blocks that are not exact.
            left = left[self._same(rows[left, :4], tried[left], 4)]
            left = left[self._same(rows[left], tried[left], BLOCK, last=len(rows) - 1, places=left)]
            scales[left], exact[left] = tried[left], True
        return scales, exact

    def _again(self, decoded: Floats, best: Halves) -> tuple[Halves, NDArray[np.bool_]]:
        """Look for scales like _exact(), for values that were decoded with known scales."""
        first = _round_up(self._peaks(decoded) / np.float32(_TOP))
        if self.dtype == "float32" and bool(((first == best) & (best > 0)).all()):
            return best, np.ones(len(best), np.bool_)  # products are exact, and _exact() would try this scale first
        return self._exact(decoded)

    def _same(
        self, rows: Floats, scales: Halves, width: int, *, last: int = -1, places: NDArray[np.intp] | None = None
    ) -> NDArray[np.bool_]:
        decoded = self._decode(self._codes(rows, scales), scales)
        same = (decoded == rows) & ~(np.signbit(rows) & (rows == 0))
        if width < BLOCK:
            same = same[:, : min(width, self.tail)]
        elif places is not None and len(places) and places[-1] == last:
            same[-1, self.tail :] = True
        same_blocks: NDArray[np.bool_] = same.all(1)
        return same_blocks

    def _squares(self, magnitudes: Floats, scales: Halves) -> Floats:
        """Return the squared error of each block from its magnitudes."""
        factors = _wide(scales)
        levels = self._nearest(magnitudes * _inverse(factors))
        levels *= factors
        levels -= magnitudes
        levels[-1, self.tail :] = 0
        total: Floats = np.einsum("ij,ij->i", levels, levels)
        return total

    def _best(self) -> Halves:
        """Return the scale of each block with the least squared error among those tried, which always include zero.

        The error ignores the rounding to the dtype.
        """
        magnitudes = np.abs(self.rows)
        magnitudes[-1, self.tail :] = 0
        peaks = magnitudes.max(1)
        full = np.minimum(_round_up(peaks / np.float32(_TOP)), self._end()).astype(np.uint16)
        return self._tried(magnitudes, peaks, full, np.einsum("ij,ij->i", magnitudes, magnitudes))

    def _tried(self, magnitudes: Floats, peaks: Floats, full: Halves, zero: Floats) -> Halves:
        """Return the best scales. ``full``: those that map the peaks to 127. ``zero``: the squared errors of zeros."""
        raise NotImplementedError

    def _nearest(self, parts: Floats) -> Floats:
        """Return the nearest levels to magnitudes in units of the scale, which are overwritten."""
        raise NotImplementedError

    def _codes(self, rows: Floats, scales: Halves) -> NDArray[Any]:
        """Return the nearest codes, and the code of zero where the scale is zero."""
        raise NotImplementedError

    def _integers(self, codes: NDArray[Any]) -> Floats:
        """Return the integers of codes."""
        raise NotImplementedError

    def _decode(self, codes: NDArray[Any], scales: Halves) -> Floats:
        """Return the values of codes, rounded to the dtype."""
        values = self._integers(codes) * _wide(scales)
        if self.dtype == "float32":
            return values
        return wide_values(round_bits(values, self.dtype), self.dtype)

    def _end(self) -> int:
        return _END_IN_FLOAT16 if self.dtype == "float16" else _LARGEST

    def _peaks(self, rows: Floats) -> Floats:
        """Return the largest magnitude of each block."""
        magnitudes = np.abs(rows)
        magnitudes[-1, self.tail :] = 0
        peaks: Floats = magnitudes.max(1)
        return peaks


class _Bytes(_Rows):
    """Of ``int8-block64``: codes are integers."""

    def _tried(self, magnitudes: Floats, peaks: Floats, full: Halves, zero: Floats) -> Halves:
        # Some of the smallest numbers are nearer to zero than to what the smallest scale gives.
        tiny = (full < 64) & (self._squares(magnitudes, full) >= zero)
        return np.where(tiny, np.uint16(0), full)

    def _nearest(self, parts: Floats) -> Floats:
        return np.minimum(np.rint(parts, out=parts), np.float32(_TOP), out=parts)

    def _codes(self, rows: Floats, scales: Halves) -> NDArray[Any]:
        parts = rows * _inverse(_wide(scales))
        return np.clip(np.rint(parts, out=parts), -_TOP, _TOP, out=parts).astype(np.int8)

    def _integers(self, codes: NDArray[Any]) -> Floats:
        return codes.astype(np.float32)


class _Levels(_Rows):
    """Of ``normal4-block64``: codes are numbers of levels, and several scales are tried."""

    def _tried(self, magnitudes: Floats, peaks: Floats, full: Halves, zero: Floats) -> Halves:
        best, least = np.zeros(len(magnitudes), np.uint16), zero
        for part in _TRIED:
            half = np.minimum(peaks * np.float32(part / _TOP), np.float32(65504)).astype(np.float16).view(np.uint16)
            tried = full if part == 1 else np.clip(half, 1, self._end()).astype(np.uint16)
            error = self._squares(magnitudes, tried)
            # If the largest value does not get the largest level, encoding again could not find the scale.
            reached = part == 1 or self._codes(peaks[:, None], tried)[:, 0] == 15
            better = (error < least) & reached & (peaks > 0)
            best, least = np.where(better, tried, best), np.where(better, error, least)
        return best

    def _nearest(self, parts: Floats) -> Floats:
        return np.take(_POSITIVE, np.minimum(parts * 2, _LAST_PLACE, out=parts).astype(np.uint8))

    def _codes(self, rows: Floats, scales: Halves) -> NDArray[Any]:
        parts = rows * _inverse(_wide(scales))
        places = np.minimum(np.abs(parts) * 2, _LAST_PLACE).astype(np.uint8)
        negative = parts < 0  # level 8 + m is the negative of level 7 - m
        codes: NDArray[np.uint8] = np.take(_CODE, places) ^ (negative * np.uint8(15))
        return codes

    def _integers(self, codes: NDArray[Any]) -> Floats:
        return np.take(_LEVELS, codes)


def _wide(scales: Halves) -> Floats:
    """Return scales as binary32 numbers, shape (blocks, 1)."""
    wide: Floats = scales.view(np.float16).astype(np.float32)[:, None]
    return wide


def _inverse(factors: Floats) -> Floats:
    """Return the reciprocals of scales, and zero for zero."""
    inverse: Floats = np.divide(1, factors, out=np.zeros_like(factors), where=factors > 0)
    return inverse


def _round_up(values: Floats) -> Halves:
    """Return the bits of the least float16 numbers that are not below positive values."""
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    bits = halves.view(np.uint16)
    return np.minimum(bits + (halves.astype(np.float32) < values), _LARGEST).astype(np.uint16)
