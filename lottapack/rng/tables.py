"""Distributions as tables, and the multiplication that scales them (spec: tables)."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lottapack.errors import UnsupportedError
from lottapack.rng.scales import BUILTIN, EXTREMES, WIDTHS, fault_between
from lottapack.rng.stream import CONSTRUCTOR, HADAMARD

Floats = npt.NDArray[np.float32]
Bits = npt.NDArray[Any]
"""The type of elements' bits: uint32 for float32, uint16 for bfloat16 and float16."""

_SHA256: Final = {
    "normal16": "1cfbba1e07e34386a57626f82aeb43e6ed54ba70a3ea6b7d964dc66a841074a8",
    "normal8": "be953b3647e269042190432180d99ecfa8d9ec44e4f22e03192b94749da14672",
    "normal4": "2c49ee770ad750d273e91561d7cacdda903055011dfc23e80d6ec6973717c211",
    "normal2": "f5877bced148f7ee666da8f8e6ac746b3e935b10443951b0e5406571e58b0e54",
    "uniform16": "e5391733f9c5678058cffe956c9532c8be9b15b06f5dd65136e417815336f836",
    "sign1": "c1112024d84bac179cfda8df2d45cdb8cb941ec29f75e8cffa61c3b4c46d44a1",
    "hadamard": "c1112024d84bac179cfda8df2d45cdb8cb941ec29f75e8cffa61c3b4c46d44a1",
}
_ID: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TINY: Final = np.finfo(np.float32).tiny
_CACHED_TABLES: Final = 8


@dataclass(frozen=True)
class Table:
    """A distribution: ``values`` has shape (2**bits,), float32, read-only. Tables with equal bytes are equal."""

    id: str
    bits: int
    values: Floats = field(compare=False, repr=False)
    sha256: str = field(init=False)
    """The SHA-256 of the values as little-endian binary32."""

    @property
    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest magnitude without zeros; 0 and 0 for a table of zeros."""
        if self.id in EXTREMES:
            return EXTREMES[self.id]
        magnitudes = np.abs(self.values[self.values != 0])
        return (float(magnitudes.min()), float(magnitudes.max())) if magnitudes.size else (0.0, 0.0)

    def __post_init__(self) -> None:
        self.values.flags.writeable = False
        object.__setattr__(self, "sha256", hashlib.sha256(self.values.astype("<f4").tobytes()).hexdigest())


@lru_cache
def builtin(id: str) -> Table:  # noqa: A002 - the spec's word
    """Return a built-in table.

    Args:
        id: one of ``lottapack.rng.BUILTIN``.

    Returns:
        The table.

    Raises:
        UnsupportedError: an unknown id, or a table of this installation that is damaged.

    Source:
        spec/v1/tables.md, section 1.

    Examples:
        >>> lottapack.rng.builtin("sign1").values.tolist()
        [-1.0, 1.0]
    """
    if id not in BUILTIN:
        raise UnsupportedError(f"unknown distribution {id!r}", hint=f"Choose one of {', '.join(BUILTIN)}.")
    if id in ("sign1", HADAMARD):
        values = np.array([-1, 1], np.float32)
    elif id == "uniform16":
        values = ((2 * np.arange(2**16) + 1 - 2**16) / 2**16).astype(np.float32)
    else:
        data = resources.files("lottapack.rng").joinpath("data", f"{id}.f32").read_bytes()
        values = np.frombuffer(data[: len(data) // 4 * 4], "<f4").astype(np.float32)
    table = Table(id, (values.size - 1).bit_length(), values)
    if table.sha256 != _SHA256[id]:
        raise UnsupportedError(
            f"the table {id!r} of this installation is damaged: SHA-256 {table.sha256}, expected {_SHA256[id]}",
            hint="Reinstall lottapack.",
        )
    return table


def custom(id: str, values: npt.NDArray[np.floating[Any]] | Sequence[float]) -> Table:  # noqa: A002
    """Make a table of your own values.

    Args:
        id: its name in the pack: at most 64 lower-case letters, digits and _, a letter first.
        values: shape (2**k,) for k of 1, 2, 4, 8 or 16, rounded to binary32.

    Returns:
        The table.

    Raises:
        UnsupportedError: id or values that a table cannot have.

    Source:
        spec/v1/tables.md, section 2.

    Examples:
        >>> lottapack.rng.custom("half", [-0.5, 0.5]).bits
        1
    """
    if not isinstance(id, str) or not _ID.fullmatch(id) or id in (*BUILTIN, CONSTRUCTOR):
        raise UnsupportedError(
            f"{id!r} cannot be the id of your own table",
            hint=f"Use at most 64 lower-case letters, digits and _, a letter first, but not "
            f"{', '.join((*BUILTIN, CONSTRUCTOR))}.",
        )
    with np.errstate(all="ignore"):  # values outside binary32 become infinite or subnormal, which table_fault() refuses
        rounded = np.array(values, np.float32)
    fault = table_fault(rounded)
    if fault:
        raise UnsupportedError(
            f"table {id!r}: {fault}",
            hint="Change the values to finite, normal numbers or zero, 2, 4, 16, 256 or 65536 of them.",
        )
    return Table(id, (rounded.size - 1).bit_length(), rounded)


def table_fault(values: Floats) -> str | None:
    """Say what is wrong with values as the table of a pack.

    Args:
        values: a float32 array.

    Returns:
        The fault in words, or None.

    Source:
        spec/v1/tables.md, section 2.

    Examples:
        >>> lottapack.rng.table_fault(numpy.array([0.0, numpy.inf], numpy.float32))
        'entry 1 is not finite'
    """
    if values.shape not in {(2**k,) for k in WIDTHS}:
        return f"has shape {values.shape}, but a table has one dimension of 2, 4, 16, 256 or 65536 entries"
    for what, wrong in (
        ("is not finite", ~np.isfinite(values)),
        ("is subnormal", (values != 0) & (np.abs(values) < _TINY)),
        ("is negative zero", (values == 0) & np.signbit(values)),
    ):
        if wrong.any():
            return f"entry {int(wrong.argmax())} {what}"
    return None


def scale_fault(table: Table, scale: float, dtype: str) -> str | None:
    """Say what is wrong with a scale for a table and a dtype.

    Args:
        table: the distribution.
        scale: its factor.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``.

    Returns:
        The fault in words, or None.

    Raises:
        KeyError: another dtype.

    Source:
        spec/v1/tables.md, section 3.

    Examples:
        >>> lottapack.rng.scale_fault(lottapack.rng.builtin("normal16"), 1.0, "float32") is None
        True
    """
    return fault_between(*table.extremes, scale, dtype)


def check_scale(table: Table, scale: float, dtype: str) -> None:
    """Raise UnsupportedError if scale_fault() finds a fault."""
    fault = scale_fault(table, scale, dtype)
    if fault:
        raise UnsupportedError(fault, hint="Choose a scale nearer to 1, or a dtype with a wider range.")


@lru_cache(maxsize=_CACHED_TABLES)
def scaled_bits(table: Table, scale: float, dtype: str) -> Bits:
    """Return the bits of every possible element of a table, scaled and rounded.

    All floating-point work of the format happens here, once for each (table, scale, dtype).

    Args:
        table: the distribution.
        scale: its factor.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``.

    Returns:
        Shape (2**table.bits,), uint32 or uint16, read-only.

    Raises:
        UnsupportedError: the scale does not fit the table.

    Source:
        spec/v1/tables.md, section 4.

    Examples:
        >>> [hex(bits) for bits in lottapack.rng.scaled_bits(lottapack.rng.builtin("sign1"), 0.5, "float16")]
        ['0xb800', '0x3800']
    """
    check_scale(table, scale, dtype)
    bits = round_bits(table.values * np.float32(scale), dtype)
    bits.flags.writeable = False
    return bits


def round_bits(values: Floats, dtype: str) -> Bits:
    """Round binary32 values once to a dtype, to nearest, ties to even, and return the bits (spec: tables, section 4).

    Values may become infinite; NaN is not supported.
    """
    if dtype == "float16":
        with np.errstate(over="ignore", under="ignore"):
            return values.astype(np.float16).view(np.uint16)
    bits = values.view(np.uint32)
    if dtype == "float32":
        return bits
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
