"""``int8-block64`` and ``normal4-block64``: integers, and a scale for each block (spec: codings, sections 3 and 4)."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lottapack.codecs.base import BLOCK, INFINITE, LEVELS, STEP, Codec, Shape, finite_bits
from lottapack.codecs.faults import CodingFaultError, UnfitError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Blocks(Codec):
    """A value is the integer of its code times the scale of its block.

    ``codes_dtype``: of the tensor of codes. ``per_byte``: codes in a byte. ``zero``: the code where the scale is 0.
    """

    fields = frozenset(("codes", "scales"))
    replaces_dtype = True
    codes_dtype: str
    per_byte: int
    zero: int

    @property
    def trials(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.id,)

    def parts(self, shape: Shape) -> dict[str, tuple[str, Shape | None]]:
        count = math.prod(shape)
        return {
            "codes": (self.codes_dtype, (-(-count // self.per_byte),)),
            "scales": ("float16", (-(-count // BLOCK),)),
        }

    def decode(self, parts: Mapping[str, Any], shape: Shape, dtype: str, out: memoryview) -> None:
        import numpy as np

        codes, scales = np.frombuffer(parts["codes"], self.codes_dtype), np.frombuffer(parts["scales"], "<u2")
        bits = np.frombuffer(out, "<u4" if dtype == "float32" else "<u2")
        count, per_byte = len(bits), self.per_byte
        if (scales >= INFINITE["float16"]).any():
            raise CodingFaultError("scales", "contains a scale that is infinite, NaN or negative")
        self.check(codes, count)
        for block in np.flatnonzero(scales == 0).tolist():
            first, last = block * BLOCK, min((block + 1) * BLOCK, count)
            if (self.unpacked(codes[first // per_byte : -(-last // per_byte)])[: last - first] != self.zero).any():
                raise CodingFaultError("codes", f"has a code other than {self.zero} in block {block}, whose scale is 0")
        wide = scales.view("<f2").astype(np.float32)
        for first in range(0, count, STEP):
            length = min(STEP, count - first)
            part = codes[first // per_byte : -(-(first + length) // per_byte)]
            factors = wide[first // BLOCK : -(-(first + length) // BLOCK)]
            whole = length // BLOCK * BLOCK
            values = self.integers(part)[:length]
            values[:whole].reshape(-1, BLOCK)[...] *= factors[: whole // BLOCK, None]
            if whole < length:
                values[whole:] *= factors[-1]
            bits[first : first + length] = finite_bits(values, dtype)

    def encode(self, data: Any, shape: Shape, dtype: str, error: float) -> "dict[str, NDArray[Any]]":
        from lottapack.codecs import block_writer

        values = self.finite(data, dtype)
        if len(values) and float(abs(values).max()) > 127 * 65504.0:
            raise UnfitError(
                f"has values beyond 127 * 65504, the largest value of a block in {self.id}",
                hint="Leave its group out of `coding`.",
            )
        codes, scales = block_writer.encode(values, dtype, self.codes_dtype)
        return {"codes": self.packed(codes), "scales": scales}

    def check(self, codes: "NDArray[Any]", count: int) -> None:
        """Raise CodingFaultError for codes that no tensor of ``count`` elements has."""
        raise NotImplementedError

    def unpacked(self, codes: "NDArray[Any]") -> "NDArray[Any]":
        """Return the codes one by one, with those of padding."""
        raise NotImplementedError

    def packed(self, codes: "NDArray[Any]") -> "NDArray[Any]":
        """Return codes, shape (n,), as the file holds them."""
        raise NotImplementedError

    def integers(self, codes: "NDArray[Any]") -> "NDArray[np.float32]":
        """Return the integers that the file's codes stand for, with those of padding."""
        raise NotImplementedError


class Int8Block64(Blocks):
    """A code is the integer itself, from -127 to 127."""

    id = "int8-block64"
    codes_dtype, per_byte, zero = "int8", 1, 0

    def check(self, codes: "NDArray[Any]", count: int) -> None:
        if count and codes.min() == -128:
            raise CodingFaultError("codes", "contains the code -128")

    def unpacked(self, codes: "NDArray[Any]") -> "NDArray[Any]":
        return codes

    packed = unpacked

    def integers(self, codes: "NDArray[Any]") -> "NDArray[np.float32]":
        import numpy as np

        return codes.astype(np.float32)


class Normal4Block64(Blocks):
    """A code is the number of one of 16 levels; a byte holds two codes, the first in its low half."""

    id = "normal4-block64"
    codes_dtype, per_byte, zero = "uint8", 2, 8

    def check(self, codes: "NDArray[Any]", count: int) -> None:
        if count % 2 and codes[-1] >> 4:
            raise CodingFaultError("codes", "has bits set in the half byte after the last code")

    def unpacked(self, codes: "NDArray[Any]") -> "NDArray[Any]":
        import numpy as np

        return np.stack([codes & 15, codes >> 4], 1).reshape(-1)

    def packed(self, codes: "NDArray[Any]") -> "NDArray[Any]":
        import numpy as np

        pairs = np.append(codes, np.zeros(len(codes) % 2, codes.dtype)).reshape(-1, 2)
        packed: NDArray[Any] = pairs[:, 0] | pairs[:, 1] << 4
        return packed

    def integers(self, codes: "NDArray[Any]") -> "NDArray[np.float32]":
        import numpy as np

        levels, byte = np.array(LEVELS, np.float32), np.arange(256)
        integers: NDArray[np.float32] = np.stack([levels[byte & 15], levels[byte >> 4]], 1)[codes].reshape(-1)
        return integers
