"""``trellis8``: levels of a trellis-coded quantiser, compressed by an entropy coder (spec: codings, section 6)."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from lottapack.codecs import trellis
from lottapack.codecs.base import MOST_GROWTH, Codec, Shape, finite_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Trellis8(Codec):
    """Levels of a trellis-coded quantiser, compressed by an entropy coder."""

    id = "trellis8"
    aims = True
    groups = ("adapters", "embeddings", "heads", "rest")
    trials = tuple(f"trellis8@{error}" for error in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1))

    def decode(self, parts: Mapping[str, Any], shape: Shape, dtype: str, out: memoryview) -> None:
        import numpy as np

        bits = np.frombuffer(out, "<u4" if dtype == "float32" else "<u2")
        trellis.decode(parts["codes"], shape, bits, partial(finite_bits, dtype=dtype))

    def encode(self, data: Any, shape: Shape, dtype: str, error: float) -> "dict[str, NDArray[Any]] | None":
        import numpy as np

        from lottapack.codecs import trellis_writer

        made = trellis_writer.encode(self.finite(data, dtype), shape, error, dtype)
        if made is None or MOST_GROWTH * len(made) < len(data):
            return None
        return {"codes": np.frombuffer(bytearray(made), np.uint8)}

    @staticmethod
    def error_for(error: float, saved: float, count: int) -> float:
        """Return the error at which ``count`` elements take ``saved`` bytes less: twice the error saves a bit each."""
        return error * float(2.0 ** (8 * saved / count))
