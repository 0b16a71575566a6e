"""``trellis8``: trellis-coded quantisation with an entropy coder (spec: codings, section 6)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottapack.codecs.faults import CodingFaultError
from lottapack.codecs.trellis_tables import (
    LARGEST_STEP,
    LOW,
    MAX_CLASSES,
    SLOTS,
    SMALLEST_STEP,
    SYMBOLS,
    lanes_of,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PIECE = 1 << 16  # elements decoded and rounded at a time: a multiple of the lanes that fits the cache
_ENDS = "ends inside its tables or states"
_UNFIT = "has a frequency that is over 2,048 or not in its shortest form"


@dataclass(frozen=True)
class Grid:
    """The order in which elements are coded: ``rows`` of ``length`` elements, of the matrix or of its transpose."""

    rows: int
    length: int

    @classmethod
    def of(cls, shape: tuple[int, ...], columns: bool) -> "Grid":
        """Return the grid of a parameter: its rows are its first dimension; a vector is one row."""
        first = shape[0] if len(shape) > 1 else 1
        rest = 1
        for size in shape if len(shape) < 2 else shape[1:]:
            rest *= size
        return cls(rest, first) if columns else cls(first, rest)

    @property
    def count(self) -> int:
        """Elements."""
        return self.rows * self.length


class _Bytes:
    """Reads the head of the coded bytes."""

    def __init__(self, data: Any) -> None:
        self.data, self.at = memoryview(data).cast("B"), 0

    def take(self, count: int) -> memoryview:
        """Return the next ``count`` bytes."""
        part = self.data[self.at : self.at + count]
        if len(part) < count:
            raise CodingFaultError("codes", _ENDS)
        self.at += count
        return part

    def byte(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def shares(self, count: int) -> list[int]:
        """Return the next numbers, each stored in seven bits of one byte, or in two bytes."""
        data, at, found = bytes(self.data[self.at : self.at + 2 * count]), 0, list[int]()
        try:
            for _ in range(count):
                share, at = data[at], at + 1
                if share > 127:
                    high, at = data[at], at + 1
                    if not 1 <= high <= 16:
                        raise CodingFaultError("codes", _UNFIT)
                    share = high << 7 | share & 127
                found.append(share)
        except IndexError:
            raise CodingFaultError("codes", _ENDS) from None
        self.at += at
        return found


def decode(
    data: Any,
    shape: tuple[int, ...],
    out: "NDArray[Any]",
    rounded: "Callable[[NDArray[np.float32]], NDArray[Any]]",
) -> None:
    """Decode into ``out``, the bits of the parameter, shape (n,). ``rounded`` turns values into bits of its dtype.

    Raises CodingFaultError, also from ``rounded``.
    """
    import numpy as np

    from lottapack.codecs.trellis_stream import Reader

    if 0 in shape:
        raise CodingFaultError("", "has 0 elements; trellis8 needs at least one")
    head = _Bytes(data)
    columns = head.byte()
    if columns > 1:
        raise CodingFaultError("codes", f"has the order {columns}; it should be 0 or 1")
    grid = Grid.of(shape, bool(columns))
    kinds = head.byte()
    if not 1 <= kinds <= MAX_CLASSES:
        raise CodingFaultError("codes", f"has {kinds} classes of rows; it should have 1 to {MAX_CLASSES}")
    step = _step(head)
    tables = [_table(head) for _ in range(2 * kinds)]
    classes = _classes(head, grid.rows, kinds)
    lanes = lanes_of(grid.count)
    states = np.frombuffer(head.take(4 * lanes), "<u4").astype(np.uint32)
    if ((states < LOW) | (states >= LOW << 16)).any():
        raise CodingFaultError("codes", "has a state outside 2**15 .. 2**31 - 1")
    rest = head.data[head.at :]
    if len(rest) % 2:
        raise CodingFaultError("codes", "ends inside a word")
    reader = Reader(states, np.frombuffer(rest, "<u2"), tables, classes, grid.length, step)
    target = np.empty(grid.count, out.dtype) if columns else out
    whole = target.dtype.itemsize == 4  # binary32 is not rounded, so the values are decoded into place
    values = target.view(np.float32) if whole else np.empty(min(_PIECE, grid.count), np.float32)
    for first in range(0, grid.count, len(values)):
        part = values[: grid.count - first]
        if not reader.into(part):
            raise CodingFaultError("codes", "ends before its last element")
        bits = rounded(part)
        if not whole:
            target[first : first + len(part)] = bits
    if not reader.finished():
        raise CodingFaultError(
            "codes", "has bytes after its last element, or its lanes do not return to their first state"
        )
    if columns:
        out.reshape(grid.length, grid.rows)[...] = target.reshape(grid.rows, grid.length).T


def _step(head: _Bytes) -> float:
    import numpy as np

    bits = int.from_bytes(head.take(2), "little")
    step = float(np.array(bits << 16, np.uint32).view(np.float32))
    if not SMALLEST_STEP <= step <= LARGEST_STEP:
        raise CodingFaultError("codes", "has a step outside 2**-100 .. 2**100")
    return step


def _table(head: _Bytes) -> list[int]:
    """Read the shares of a table's magnitudes."""
    count = head.byte()
    if not 1 <= count <= SYMBOLS:
        raise CodingFaultError("codes", f"has a table of {count} magnitudes; it should have 1 to {SYMBOLS}")
    shares = head.shares(count)
    if sum(shares) != SLOTS // 2:
        raise CodingFaultError("codes", f"has a table whose frequencies add up to {sum(shares)}, not 2048")
    if not shares[-1]:
        raise CodingFaultError("codes", "has a table whose last frequency is 0")
    return shares


def _classes(head: _Bytes, rows: int, kinds: int) -> "NDArray[np.uint8]":
    import numpy as np

    if kinds == 1:
        return np.zeros(rows, np.uint8)
    packed = np.frombuffer(head.take(-(-rows // 2)), np.uint8)
    classes = np.stack([packed & 15, packed >> 4], 1).reshape(-1)
    if classes[rows:].any():
        raise CodingFaultError("codes", "has bits set in the half byte after the last class")
    if (classes >= kinds).any():
        raise CodingFaultError("codes", f"has a row whose class is not below {kinds}")
    return np.ascontiguousarray(classes[:rows])
