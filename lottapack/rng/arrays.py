"""Fill NumPy arrays with the bits of elements, and take their fingerprints, without torch.

Where kernels cannot be loaded, torch does the work if the process has imported it, else the reference in NumPy.
"""

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lottapack.errors import UnsupportedError
from lottapack.rng import backends, fill, hadamard, selfcheck
from lottapack.rng.stream import ITEM_BITS, Source, check_range
from lottapack.rng.tables import check_scale
from lottapack.rng.threads import PIECE

if TYPE_CHECKING:
    import torch


def fill_bits(out: npt.NDArray[Any], source: Source, start: int = 0) -> None:
    """Fill an array with the bits of elements of a source.

    Args:
        out: shape (n,), contiguous; uint32 for float32, uint16 for bfloat16 and float16.
        source: what is generated.
        start: the number of the first element.

    Raises:
        UnsupportedError: the array is something else, the scale does not fit the table, or elements lie beyond
            2**63 - 1.
        DeviceError: this machine fails the known answers.

    Source:
        spec/v1/stream.md and spec/v1/tables.md.

    Examples:
        >>> source = lottapack.rng.Source(42, "weight", lottapack.rng.builtin("sign1"), 1.0, "float32")
        >>> out = numpy.empty(4, numpy.uint32)
        >>> lottapack.rng.fill_bits(out, source)
        >>> numpy.abs(out.view(numpy.float32)).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    _check(out, {ITEM_BITS[source.dtype]}, start)
    if not out.flags.writeable:
        raise UnsupportedError("cannot fill a read-only array", hint="Pass a writable copy of it.")
    if source.matrix is not None:
        hadamard.fill_bits(out, source, start)
    elif _numba_ready():
        from lottapack.rng import cpu

        cpu.fill_bits(out, source, start)
    elif sys.modules.get("torch") is not None:
        fill.fill_(_tensor(out, source.dtype), source, start)
    else:
        from lottapack.rng import reference

        check_scale(source.table, source.scale, source.dtype)
        for first in range(0, out.size, PIECE):
            part = out[first : first + PIECE]
            part[:] = reference.elements(source, start + first, part.size)


def fingerprint_bits(bits: npt.NDArray[Any], start: int = 0) -> int:
    """Return the fingerprint of the bits of elements.

    Args:
        bits: shape (n,), uint32 or uint16, contiguous.
        start: the number of the first element.

    Returns:
        64 bits.

    Raises:
        UnsupportedError: as in fill_bits().
        DeviceError: this machine fails the known answers.

    Source:
        spec/v1/fingerprint.md.

    Examples:
        >>> hex(lottapack.rng.fingerprint_bits(numpy.zeros(4, numpy.uint32)))
        '0x575da3bc9ce078f2'
    """
    _check(bits, set(ITEM_BITS.values()), start)
    if _numba_ready():
        from lottapack.rng import cpu

        return cpu.fingerprint_bits(bits, start)
    if sys.modules.get("torch") is not None:
        return fill.fingerprint(_tensor(bits.copy(), "float32" if bits.itemsize == 4 else "float16"), start)
    from lottapack.rng import reference

    found = (reference.fingerprint(bits[at : at + PIECE], start + at) for at in range(0, bits.size, PIECE))
    return sum(found) % 2**64


def fingerprint_of(source: Source, count: int) -> int:
    """Return the fingerprint of the tensor that a source generates, a few MiB at a time.

    Args:
        source: what is generated.
        count: its elements.

    Returns:
        64 bits.

    Raises:
        UnsupportedError: as in fill_bits().
        DeviceError: this machine fails the known answers.

    Source:
        spec/v1/fingerprint.md.

    Examples:
        >>> source = lottapack.rng.Source(42, "weight", lottapack.rng.builtin("sign1"), 1.0, "float32")
        >>> len(lottapack.rng.fingerprint_hex(lottapack.rng.fingerprint_of(source, 100)))
        16
    """
    check_range(0, count)
    if source.matrix is None and _numba_ready():
        from lottapack.rng import cpu

        return cpu.fingerprint_of(source, count)
    total = 0
    for start in range(0, count, PIECE):
        piece = np.empty(min(PIECE, count - start), f"u{ITEM_BITS[source.dtype] // 8}")
        fill_bits(piece, source, start)
        total += fingerprint_bits(piece, start)
    return total % 2**64


def fingerprint_hex(fingerprint: int) -> str:
    """Write a fingerprint as a pack does: 16 lower-case hexadecimal digits.

    Args:
        fingerprint: 64 bits.

    Returns:
        The digits.

    Source:
        spec/v1/fingerprint.md.

    Examples:
        >>> lottapack.rng.fingerprint_hex(255)
        '00000000000000ff'
    """
    return f"{fingerprint:016x}"


def _numba_ready() -> bool:
    """Return whether numba can be used; if so, it has passed the known-answer test."""
    if not backends.numba_works():
        return False
    from lottapack.rng import cpu

    def compute(source: Source, start: int, count: int) -> int:
        answer = np.empty(count, f"u{ITEM_BITS[source.dtype] // 8}")
        cpu.fill_bits(answer, source, start)
        return cpu.fingerprint_bits(answer, start)

    selfcheck.ensure("numba", "cpu", compute)
    return True


def _tensor(bits: npt.NDArray[Any], dtype: str) -> "torch.Tensor":
    """Return a tensor that shares the memory of ``bits``."""
    import torch

    return torch.from_numpy(bits.view(f"i{bits.itemsize}")).view(getattr(torch, dtype))


def _check(bits: npt.NDArray[Any], widths: set[int], start: int) -> None:
    wanted = [np.dtype(f"u{width // 8}") for width in sorted(widths)]
    if bits.ndim != 1 or bits.dtype not in wanted or not bits.flags.c_contiguous:
        raise UnsupportedError(
            f"cannot use an array of dtype {bits.dtype}, shape {bits.shape} and strides {bits.strides}",
            hint=f"Pass a contiguous one-dimensional array of {' or '.join(map(str, wanted))}.",
        )
    check_range(start, bits.size)
