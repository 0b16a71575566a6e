"""Find a tensor's words in the stream from the seed and the tensor's name (spec: stream)."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
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

    Raises UnsupportedError if seed, name or dtype is invalid. The scale is checked against the table when elements are
    first generated (:func:`lottapack.rng.scale_fault`).
    """

    seed: int
    name: str
    table: "Table"
    scale: float
    dtype: str

    def __post_init__(self) -> None:
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
        stream = self.stream
        return *self.key, stream & _LOW32, stream >> 32

    @property
    def fields(self) -> int:
        """F: the number of elements that one word serves (spec: stream, section 4)."""
        return WORD_BITS // self.table.bits


def check_range(start: int, count: int) -> None:
    """Raise UnsupportedError unless elements ``start`` to ``start + count - 1`` exist (spec: stream, section 5)."""
    if count < 0 or not 0 <= start <= 2**63 - count:
        raise UnsupportedError(
            f"the range {start}..{start + count} exceeds the stream's 2**63 elements",
            hint="Use indices from 0 to 2**63 - 1.",
        )
