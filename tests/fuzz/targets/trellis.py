"""The decoder of ``trellis8``, whose kernel trusts what was checked before it."""

import random
from collections.abc import Iterator

import numpy as np

from lottapack.codecs import trellis, trellis_writer
from lottapack.codecs.faults import CodingFaultError

SHAPES = ((20, 30), (2, 5000), (7,), (3, 4, 5))


def seeds() -> Iterator[bytes]:
    """The number of a shape, then coded bytes of it."""
    draw = np.random.default_rng(1)
    for number, shape in enumerate(SHAPES):
        values = draw.normal(size=shape).astype(np.float32).reshape(-1)
        values *= np.repeat(np.exp(draw.normal(size=shape[0])), values.size // shape[0]).astype(np.float32)
        for error in (0.002, 0.05, 0.4):
            coded = trellis_writer.encode(values, shape, error)
            assert coded is not None
            yield bytes([number]) + coded


def mutated(data: bytes, seed: int) -> bytes | None:
    """Bytes changed, put in and cut off, most of them in the head."""
    draw = random.Random(seed)
    made = bytearray(data)
    for _ in range(draw.randrange(1, 4)):
        place = draw.randrange(min(len(made), draw.choice((16, 120, 1 << 20)))) if made else 0
        kind = draw.randrange(4)
        if kind == 0:
            made.insert(place, draw.randrange(256))
        elif kind == 1:
            del made[place : place + draw.randrange(1, 4)]
        elif made:
            made[min(place, len(made) - 1)] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
    return bytes(made)


def one(data: bytes) -> None:
    """Decode: finite values, or a typed fault."""
    if not data:
        return
    shape = SHAPES[data[0] % len(SHAPES)]
    bits = np.empty(int(np.prod(shape)), np.uint32)
    try:
        trellis.decode(data[1:], shape, bits, lambda part: part.view(np.uint32))
    except CodingFaultError:
        return
    assert np.isfinite(bits.view(np.float32)).all()
