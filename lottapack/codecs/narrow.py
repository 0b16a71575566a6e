"""``float16`` and ``bfloat16``: float32 tensors in a narrower dtype (spec: codings, section 2)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lottapack.codecs.base import STEP, Codec, Shape, is_infinite, wide_values
from lottapack.codecs.faults import CodingFaultError, UnfitError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Narrow(Codec):
    """The codes are the elements, rounded to the dtype ``id``."""

    dtypes = ("float32",)

    def __init__(self, dtype: str, trials: tuple[str, ...] = ()) -> None:
        self.id, self.trials = dtype, trials

    def parts(self, shape: Shape) -> dict[str, tuple[str, Shape | None]]:
        return {"codes": (self.id, shape)}

    def decode(self, parts: Mapping[str, Any], shape: Shape, dtype: str, out: memoryview) -> None:
        import numpy as np

        codes, bits = np.frombuffer(parts["codes"], "<u2"), np.frombuffer(out, "<u4")
        for first in range(0, len(codes), STEP):
            part = codes[first : first + STEP]
            if is_infinite(part, self.id):
                raise CodingFaultError("codes", "contains infinity or NaN")
            bits[first : first + STEP] = wide_values(part, self.id).view(np.uint32)

    def encode(self, data: Any, shape: Shape, dtype: str, error: float) -> "dict[str, NDArray[Any]]":
        import numpy as np

        from lottapack.rng.tables import round_bits

        values = self.finite(data, dtype)
        codes = np.empty(len(values), np.uint16)
        for first in range(0, len(values), STEP):
            codes[first : first + STEP] = made = round_bits(values[first : first + STEP], self.id)
            if is_infinite(made, self.id):
                raise UnfitError(
                    f"contains {float(np.abs(values).max()):.6g}, which is outside the range of {self.id}",
                    hint="Nothing was written. Use bfloat16, which has the range of float32."
                    if self.id == "float16"
                    else "Nothing was written. Keep its dtype.",
                )
        return {"codes": codes}
