"""What the codings share (spec: codings)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from lottapack.codecs.faults import CodingFaultError, UnfitError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_GROWTH = 1032
"""The most bytes that DEFLATE makes of one; other codings may not make more."""

STEP = 1 << 16
"""The elements, or bytes of a stream, that are worked on at a time: whole blocks that stay in the cache."""

BLOCK = 64
"""The elements of the block codings that share a scale."""

LEVELS = (-127, -90, -69, -53, -39, -27, -16, -5, 5, 16, 27, 39, 53, 69, 90, 127)
"""The levels of the codes of ``normal4-block64``."""

Shape = tuple[int, ...]


class Codec:
    """One coding: the form of its tensors in the file, decoding and encoding.

    ``id``: as in the entry. ``fields``: the fields of the entry beside the id. ``dtypes``: of the tensors that it
    holds; empty for all. ``exact``: whether decoding gives back every bit. ``aims``: whether encode() keeps the error
    that it is asked for. ``replaces_dtype``: whether it is always smaller than a narrower dtype. ``groups``: what it
    is meant for if a caller names no group. ``trials``: the forms that are measured to show what each costs.
    """

    id: str
    fields: ClassVar[frozenset[str]] = frozenset(("codes",))
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    exact = False
    aims = False
    replaces_dtype = False
    groups: tuple[str, ...] = ("embeddings",)
    trials: tuple[str, ...] = ()

    def fits(self, dtype: str) -> bool:
        """Return whether it holds tensors of a dtype."""
        return not self.dtypes or dtype in self.dtypes

    def parts(self, shape: Shape) -> dict[str, tuple[str, Shape | None]]:
        """Return the dtype and shape of each coded tensor of a tensor of a shape.

        A compressed tensor has the shape None, because its size is not known in advance.
        """
        return {"codes": ("uint8", None)}

    def decode(self, parts: Mapping[str, Any], shape: Shape, dtype: str, out: memoryview) -> None:
        """Decode a tensor into ``out``, which has its size in bytes.

        ``parts``: the bytes of its coded tensors. Raises CodingFaultError.
        """
        raise NotImplementedError

    def encode(self, data: Any, shape: Shape, dtype: str, error: float) -> "dict[str, NDArray[Any]] | None":
        """Return the coded tensors of a tensor, or None if the coding does not suit it.

        ``data``: its bytes. ``error``: the largest root mean square error, relative to the tensor's own, if the coding
        aims at one. Encoding decoded values gives the same codes again. Raises UnfitError.
        """
        raise NotImplementedError

    def finite(self, data: Any, dtype: str) -> "NDArray[np.float32]":
        """Return the values of a tensor's bytes. Raises UnfitError if one is infinite or NaN."""
        import numpy as np

        values = wide_values(np.frombuffer(data, "<u4" if dtype == "float32" else "<u2"), dtype)
        if not np.isfinite(values).all():
            raise UnfitError(
                f"contains infinity or NaN, which {self.id} cannot store", hint="Use planes-zlib, or train again."
            )
        return values


def wide_values(bits: "NDArray[Any]", dtype: str) -> "NDArray[np.float32]":
    """Return the binary32 values of a floating dtype's bits, which is exact."""
    import numpy as np

    if dtype == "float16":
        return bits.view(np.float16).astype(np.float32)
    return bits.view(np.float32) if dtype == "float32" else (bits.astype(np.uint32) << 16).view(np.float32)


INFINITE = {"float16": 0x7C00, "bfloat16": 0x7F80}
"""The bits that are all set in infinity and NaN."""


def is_infinite(bits: "NDArray[np.uint16]", dtype: str) -> bool:
    """Return whether one of the bits of a narrow dtype stands for infinity or NaN."""
    return bool(((bits & INFINITE[dtype]) == INFINITE[dtype]).any())


def finite_bits(values: "NDArray[np.float32]", dtype: str) -> "NDArray[Any]":
    """Round finite binary32 values to a dtype. Raises CodingFaultError for a value that float16 cannot hold."""
    from lottapack.rng.tables import round_bits

    made = round_bits(values, dtype)
    if dtype == "float16" and is_infinite(made, dtype):
        raise CodingFaultError("", "decodes to a value outside the range of float16")
    return made
