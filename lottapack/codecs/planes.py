"""``planes-zlib``: lossless compression of the bytes of any dtype (spec: codings, section 5)."""

import math
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lottapack.codecs.base import STEP, Codec, Shape
from lottapack.codecs.faults import CodingFaultError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ZLIB_LEVEL = 6


class PlanesZlib(Codec):
    """The first byte of every element, then the second byte of every element, and so on, in one zlib stream."""

    id = "planes-zlib"
    dtypes = ()
    exact = True
    groups = ("*",)

    def decode(self, parts: Mapping[str, Any], shape: Shape, dtype: str, out: memoryview) -> None:
        """Decompress, and refuse more bytes than expected."""
        import numpy as np

        elements = (
            np.frombuffer(out, np.uint8).reshape(math.prod(shape), -1) if len(out) else np.empty((0, 1), np.uint8)
        )
        places = elements.T  # shape (size, elements): row j is plane j
        count = places.shape[1]
        view, stream, done = memoryview(parts["codes"]), zlib.decompressobj(), 0
        try:
            for first in range(0, len(view), STEP):
                piece: Any = view[first : first + STEP]
                while True:
                    got = stream.decompress(piece, min(STEP, len(out) - done) + 1)
                    if done + len(got) > len(out):
                        raise CodingFaultError("codes", f"decompresses to more than {len(out):,} bytes")
                    fresh = np.frombuffer(got, np.uint8)
                    while len(fresh):
                        plane, place = divmod(done, count)
                        now = fresh[: count - place]
                        places[plane, place : place + len(now)] = now
                        done, fresh = done + len(now), fresh[len(now) :]
                    piece = stream.unconsumed_tail
                    if not got or stream.eof:
                        break
                if stream.eof:
                    if stream.unused_data or first + STEP < len(view):
                        raise CodingFaultError("codes", "has bytes after the end of its zlib stream")
                    break
        except zlib.error as fault:
            raise CodingFaultError("codes", f"is not a zlib stream: {fault}") from fault
        if not stream.eof or done != len(out):
            raise CodingFaultError("codes", f"ends after {done:,} of {len(out):,} bytes, or without its checksum")

    def encode(self, data: Any, shape: Shape, dtype: str, error: float) -> "dict[str, NDArray[Any]]":
        import numpy as np

        stream = zlib.compressobj(_ZLIB_LEVEL)
        made = bytearray()
        if len(data):
            planes = np.frombuffer(data, np.uint8).reshape(math.prod(shape), -1).T
            for plane in planes:
                made += stream.compress(plane.tobytes())
        made += stream.flush()
        return {"codes": np.frombuffer(made, np.uint8)}
