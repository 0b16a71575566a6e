"""The codings of tensors; one class each decodes, encodes and knows its limits (spec: codings)."""

from lottapack.codecs.base import MOST_GROWTH as MOST_GROWTH
from lottapack.codecs.base import Codec as Codec
from lottapack.codecs.blocks import Int8Block64, Normal4Block64
from lottapack.codecs.narrow import Narrow as Narrow
from lottapack.codecs.planes import PlanesZlib as PlanesZlib
from lottapack.codecs.trellis8 import Trellis8 as Trellis8

CODECS: dict[str, Codec] = {
    codec.id: codec
    for codec in (
        Narrow("float16", trials=("float16",)),
        Narrow("bfloat16"),
        Int8Block64(),
        Normal4Block64(),
        Trellis8(),
        PlanesZlib(),
    )
}
"""Every coding of the format whose tensors lie in the file, by id."""
