"""The codings of stored tensors: their tensors in the file, and how to decode them (spec: codings)."""

import zlib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from lottapack.codecs import trellis
from lottapack.codecs.faults import CodingFaultError
from lottapack.format import dtypes
from lottapack.format.descriptor import Coding, Stored
from lottapack.format.shapes import numel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 64
"""The number of elements that share a scale."""

LEVELS = (-127, -90, -69, -53, -39, -27, -16, -5, 5, 16, 27, 39, 53, 69, 90, 127)
"""The levels of the codes of ``normal4-block64``."""

NARROW = ("float16", "bfloat16")
BLOCKS = ("int8-block64", "normal4-block64")
PLANES = "planes-zlib"
TRELLIS = "trellis8"
SEEDED = "seeded"
"""Of a tensor of an adapter that comes from the seed."""
SHARED = "shared"
"""Of a factor of an adapter that is part of the same factor of another parameter's adapter."""
WITHOUT_BYTES = (SEEDED, SHARED)
"""The codings of factors that have no tensor of their own in the file."""
COMPRESSED = (PLANES, TRELLIS)
"""The codings whose coded tensor may have any size that can hold the parameter."""

DTYPES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(NARROW, ("float32",)),
    **dict.fromkeys((*BLOCKS, TRELLIS), dtypes.GENERATED),
    PLANES: tuple(dtypes.ITEMSIZE),
}
"""Every coding with the dtypes of parameters that it supports."""

MOST_GROWTH = 1032
"""The most bytes that DEFLATE makes of one; other codings may not make more."""

_STEP = 1 << 16  # elements, or bytes of a stream: a multiple of BLOCK that stays in the cache
_INFINITE = 0x7C00  # binary16 numbers without sign are not finite from these bits on
_ZERO_CODE = {"int8-block64": 0, "normal4-block64": 8}


def coding_of(entry: object) -> Coding | None:
    """Return the coding of a parameter's entry, or None."""
    return entry.coding if isinstance(entry, Stored) and isinstance(entry.coding, Coding) else None


def fields_of(coding: str) -> frozenset[str]:
    """Return the fields that a coding has beside its id."""
    if coding == SEEDED:
        return frozenset(("distribution", "scale"))
    if coding == SHARED:
        return frozenset(("of",))
    return frozenset(("codes", "scales") if coding in BLOCKS else ("codes",))


def coded_tensors(entry: Stored, coding: Coding) -> Iterator[tuple[str, str, tuple[int, ...] | None, str]]:
    """Yield (part, dtype, shape, sha256) of each tensor that the file holds for a coded parameter.

    The shape of a compressed tensor is None, because its size is not known in advance.
    """
    count = numel(entry.shape)
    codes = str(coding.codes)
    if coding.id in WITHOUT_BYTES:
        return
    if coding.id in NARROW:
        yield "codes", coding.id, entry.shape, codes
    elif coding.id in COMPRESSED:
        yield "codes", "uint8", None, codes
    else:
        eight = coding.id == "int8-block64"
        yield "codes", "int8" if eight else "uint8", (count if eight else -(-count // 2),), codes
        yield "scales", "float16", (-(-count // BLOCK),), str(coding.scales)


def decode_into(entry: Stored, coding: Coding, parts: dict[str, Any], out: memoryview) -> None:
    """Decode a parameter into ``out``, which has the parameter's size in bytes.

    ``parts``: the bytes of its coded tensors, by part. Raises CodingFaultError.
    """
    import numpy as np

    if coding.id == PLANES:
        _inflate(parts["codes"], np.frombuffer(out, np.uint8), dtypes.ITEMSIZE[entry.dtype])
    elif coding.id == TRELLIS:
        target = np.frombuffer(out, "<u4" if entry.dtype == "float32" else "<u2")
        trellis.decode(parts["codes"], entry.shape, target, partial(finite_bits, dtype=entry.dtype))
    elif coding.id in NARROW:
        _widen(coding.id, np.frombuffer(parts["codes"], "<u2"), np.frombuffer(out, "<u4"))
    else:
        eight = coding.id == "int8-block64"
        codes = np.frombuffer(parts["codes"], np.int8 if eight else np.uint8)
        bits = "<u4" if entry.dtype == "float32" else "<u2"
        _multiply(coding.id, codes, np.frombuffer(parts["scales"], "<u2"), np.frombuffer(out, bits), entry.dtype)


def round_bits(values: "NDArray[np.float32]", dtype: str) -> "NDArray[Any]":
    """Round finite binary32 values once to a dtype (to nearest, ties to even) and return their bits."""
    import numpy as np

    bits = values.view(np.uint32)
    if dtype == "bfloat16":
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).view(np.uint16)
    return bits


def finite_bits(values: "NDArray[np.float32]", dtype: str) -> "NDArray[Any]":
    """Round like round_bits(). Raises CodingFaultError for a value that the dtype cannot hold."""
    made = round_bits(values, dtype)
    if dtype == "float16" and ((made & _INFINITE) == _INFINITE).any():
        raise CodingFaultError("", "decodes to a value outside the range of float16")
    return made


def integers_of(coding: str, codes: "NDArray[Any]", count: int) -> "NDArray[np.float32]":
    """Return the integers that the codes of a block coding stand for, shape (count,)."""
    import numpy as np

    if coding == "int8-block64":
        return codes.astype(np.float32)
    levels = np.array(LEVELS, np.float32)
    byte = np.arange(256)
    integers: NDArray[np.float32] = np.stack([levels[byte & 15], levels[byte >> 4]], 1)[codes].reshape(-1)[:count]
    return integers


def _widen(coding: str, codes: "NDArray[np.uint16]", out: "NDArray[np.uint32]") -> None:
    import numpy as np

    infinite = _INFINITE if coding == "float16" else 0x7F80
    for first in range(0, len(codes), _STEP):
        part = codes[first : first + _STEP]
        if ((part & infinite) == infinite).any():
            raise CodingFaultError("codes", "contains infinity or NaN")
        wide = part.view("<f2").astype("<f4").view(np.uint32) if coding == "float16" else part.astype(np.uint32) << 16
        out[first : first + _STEP] = wide


def _multiply(
    coding: str, codes: "NDArray[Any]", scales: "NDArray[np.uint16]", out: "NDArray[Any]", dtype: str
) -> None:
    import numpy as np

    count = len(out)
    if (scales >= _INFINITE).any():
        raise CodingFaultError("scales", "contains a scale that is infinite, NaN or negative")
    two = int(coding == "normal4-block64")  # codes in a byte, minus one
    if two and count % 2 and codes[-1] >> 4:
        raise CodingFaultError("codes", "has bits set in the half byte after the last code")
    if not two and count and codes.min() == -128:
        raise CodingFaultError("codes", "contains the code -128")
    _check_zero_blocks(coding, codes, scales, count)
    wide = scales.view("<f2").astype(np.float32)
    for first in range(0, count, _STEP):
        length = min(_STEP, count - first)
        part = codes[first >> two : (first + length + two) >> two]
        factors = wide[first // BLOCK : (first + length + BLOCK - 1) // BLOCK]
        whole = length // BLOCK * BLOCK
        values = integers_of(coding, part, length)
        values[:whole].reshape(-1, BLOCK)[...] *= factors[: whole // BLOCK, None]
        if whole < length:
            values[whole:] *= factors[-1]
        out[first : first + length] = finite_bits(values, dtype)


def _check_zero_blocks(coding: str, codes: "NDArray[Any]", scales: "NDArray[np.uint16]", count: int) -> None:
    """Check that every code in a block with scale 0 is the code of positive zero."""
    import numpy as np

    zero = _ZERO_CODE[coding]
    for block in np.flatnonzero(scales == 0).tolist():
        first, last = block * BLOCK, min((block + 1) * BLOCK, count)
        if coding == "int8-block64":
            right = not codes[first:last].any()
        else:
            part = codes[first // 2 : -(-last // 2)]
            halves = np.stack([part & 15, part >> 4], 1).reshape(-1)[: last - first]
            right = bool((halves == zero).all())
        if not right:
            raise CodingFaultError("codes", f"has a code other than {zero} in block {block}, whose scale is 0")


def _inflate(data: Any, out: "NDArray[np.uint8]", size: int) -> None:
    """Decompress byte planes into place, and refuse more bytes than expected."""
    import numpy as np

    places = out.reshape(-1, size).T  # shape (size, elements): row j is plane j
    count = places.shape[1]
    view, stream, done = memoryview(data), zlib.decompressobj(), 0
    try:
        for first in range(0, len(view), _STEP):
            piece: Any = view[first : first + _STEP]
            while True:
                got = stream.decompress(piece, min(_STEP, len(out) - done) + 1)
                if done + len(got) > len(out):
                    raise CodingFaultError("codes", f"decompresses to more than {len(out):,} bytes")
                fresh = np.frombuffer(got, np.uint8)
                while len(fresh):
                    plane, place = divmod(done, count)
                    now = fresh[: count - place]
                    places[plane, place : place + len(now)] = now
                    done, fresh = done + len(now), fresh[len(now) :]
                piece = stream.unconsumed_tail
                if not got or stream.eof:
                    break
            if stream.eof:
                if stream.unused_data or first + _STEP < len(view):
                    raise CodingFaultError("codes", "has bytes after the end of its zlib stream")
                break
    except zlib.error as fault:
        raise CodingFaultError("codes", f"is not a zlib stream: {fault}") from fault
    if not stream.eof or done != len(out):
        raise CodingFaultError("codes", f"ends after {done:,} of {len(out):,} bytes, or without its checksum")
