"""Find a tensor's words in the stream from the seed and the tensor's name (spec: stream)."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Final

from lottapack.errors import UnsupportedError

if TYPE_CHECKING:
    from lottapack.rng.tables import Table

ALGORITHM: Final = "philox4x32-10"
TORCH_CPU: Final = "torch-cpu"
"""The id of weights that PyTorch draws while it builds a model; this package does not generate them (torch_cpu)."""
CONSTRUCTOR: Final = "constructor"
"""The distribution of every parameter of TORCH_CPU."""

WORDS: Final = 1024
"""The number of words in a block (spec: stream, section 3)."""
COUNTERS: Final = 256
"""The number of counters in a block; each gives four words, one in each lane."""
WORD_BITS: Final = 32

MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
"""M0, M1 of Philox 4x32 (spec: stream, section 1)."""
WEYL: Final = (0x9E3779B9, 0xBB67AE85)
"""W0, W1: the increments of the key for each round."""
ROUNDS: Final = 10

ITEM_BITS: Final = {"float32": 32, "bfloat16": 16, "float16": 16}
"""The bits of an element for each dtype that can be generated (spec: descriptor, section 4)."""

PLACES: Final = 1 << 62
"""The counter whose words say where rows of a Hadamard matrix are taken: no element's words need it (section 6)."""
HADAMARD: Final = "hadamard"
"""The distribution whose elements depend on the size of their matrix (section 6)."""
LONGEST: Final = 1 << 29
"""The longest side that a matrix of this distribution may have."""

_LOW32: Final = 0xFFFFFFFF


def stream_of(name: str) -> int:
    """Return the 64-bit stream of a tensor.

    Args:
        name: of the tensor in the plain model's ``state_dict``.

    Returns:
        The first 64 bits of the SHA-256 of the name, little-endian.

    Raises:
        UnicodeEncodeError: the name has no UTF-8 form.

    Source:
        spec/v1/stream.md, section 2.

    Examples:
        >>> hex(lottapack.rng.stream_of("layers.0.weight"))
        '0x...'
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


@dataclass(frozen=True)
class Source:
    """Everything that determines the bits of a generated tensor, except its length.

    ``seed``: 0 to 2**64 - 1. ``name``: the tensor's name in the plain model's ``state_dict``. ``table``: the
    distribution. ``scale``: a positive binary32 number. ``dtype``: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    ``shape``: the tensor's, which only ``hadamard`` needs.

    Raises UnsupportedError if seed, name or dtype is invalid, or a shape is needed and missing. The scale is checked
    against the table when elements are first generated (:func:`lottapack.rng.scale_fault`).
    """

    seed: int
    name: str
    table: "Table"
    scale: float
    dtype: str
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.table.id == HADAMARD:
            fault = "its shape is needed" if self.shape is None else matrix_fault(self.shape)
            if fault:
                raise UnsupportedError(f"{self.name!r}: {HADAMARD}: {fault}", hint="Choose another distribution.")
        if not 0 <= self.seed < 2**64:
            raise UnsupportedError(
                f"{self.name!r}: the seed {self.seed} is outside 0 .. 2**64 - 1",
                hint="Choose a seed of 64 bits; hash a longer one first.",
            )
        if self.dtype not in ITEM_BITS:
            raise UnsupportedError(
                f"{self.name!r}: cannot generate dtype {self.dtype!r}",
                hint=f"Generate in one of {', '.join(ITEM_BITS)} and convert the tensor.",
            )
        try:
            self.name.encode()
        except UnicodeEncodeError as error:
            raise UnsupportedError(
                f"{self.name!r}: the name cannot be encoded in UTF-8", hint="Rename the tensor."
            ) from error

    @cached_property
    def matrix(self) -> tuple[int, int] | None:
        """Rows and columns, for the distribution whose elements depend on them."""
        return matrix_of(self.shape) if self.table.id == HADAMARD and self.shape is not None else None

    @property
    def key(self) -> tuple[int, int]:
        """``k0, k1``: the key of Philox."""
        return self.seed & _LOW32, self.seed >> 32

    @property
    def stream(self) -> int:
        """The 64-bit stream of the name."""
        return stream_of(self.name)

    @cached_property
    def halves(self) -> tuple[int, int, int, int]:
        """``k0, k1, s0, s1``: the key, and the lower and upper half of the stream, for kernels."""
        self._require_table()
        stream = self.stream
        return *self.key, stream & _LOW32, stream >> 32

    @property
    def fields(self) -> int:
        """F: the number of elements that one word serves (spec: stream, section 4)."""
        self._require_table()
        return WORD_BITS // self.table.bits

    def _require_table(self) -> None:
        """Raise where elements do not follow from their number alone: what asks would compute others."""
        if self.table.id == HADAMARD:
            raise UnsupportedError(
                f"{self.name!r}: {HADAMARD} weights cannot be generated here",
                hint="Generate them with lottapack.load() or lottapack.draw(), which know their shape.",
            )


def matrix_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a tensor: its first dimension, and all others; of one dimension one row."""
    return (shape[0] if len(shape) > 1 else 1), prod(shape[1:] if len(shape) > 1 else shape)


def matrix_fault(shape: tuple[int, ...]) -> str | None:
    """Why a shape cannot have the distribution ``hadamard``, or None."""
    return f"a side of {max(matrix_of(shape)):,} is longer than 2**29" if max(matrix_of(shape)) > LONGEST else None


def check_range(start: int, count: int) -> None:
    """Raise UnsupportedError unless elements ``start`` to ``start + count - 1`` exist (spec: stream, section 5)."""
    if count < 0 or not 0 <= start <= 2**63 - count:
        raise UnsupportedError(
            f"the range {start}..{start + count} exceeds the stream's 2**63 elements",
            hint="Use indices from 0 to 2**63 - 1.",
        )
