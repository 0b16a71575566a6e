import hashlib

import numpy as np
import pytest

from lottapack.errors import UnsupportedError
from lottapack.rng import ALGORITHM, Source, builtin, reference, stream_of

# Random123, tests/kat_vectors: counter, key, output.
KNOWN = """
00000000 00000000 00000000 00000000 00000000 00000000 6627e8d5 e169c58d bc57ac4c 9b00dbd8
ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 408f276d 41c83b0e a20bc7c6 6d5451fd
243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0 d16cfe09 94fdcceb 5001e420 24126ea1
00000001 00000000 00000000 00000000 00000001 00000000 ac08141b dfc5ccbe 79c07a47 a7f66093
00000000 00000001 00000000 00000000 00000001 00000000 833ff8dc 225c963c 232b88b3 0b334b07
00000000 00000000 00000001 00000000 00000001 00000000 07071c12 428264b6 3909104b 6da2bda2
00000000 00000000 00000000 00000001 00000001 00000000 127bee41 1e047488 48842b20 0a393496
00000001 00000000 00000000 00000000 00000000 00000001 ccf3076a 6306f434 bea71965 d96fe48a
"""


@pytest.mark.parametrize("line", KNOWN.strip().splitlines())
def test_philox_gives_the_known_answers(line):
    words = [int(word, 16) for word in line.split()]
    assert reference.philox4x32(tuple(words[:4]), tuple(words[4:6])) == tuple(words[6:])
    lanes = reference.philox4x32(tuple(np.array([word, 0], np.uint64) for word in words[:4]), tuple(words[4:6]))
    assert [int(lane[0]) for lane in lanes] == words[6:]


def test_philox_is_that_of_cpp26():
    """The 10,000th value of std::philox4x32 with its default seed: counter 2499, lane 3."""
    assert reference.philox4x32((2499, 0, 0, 0), (20111115, 0))[3] == 1955073260


@pytest.mark.parametrize("name", ["0.weight", "", "Größe.β.重み"])
def test_the_stream_is_the_start_of_the_sha256(name):
    first = hashlib.sha256(name.encode("utf-8")).hexdigest()[:16]
    assert stream_of(name) == sum(int(first[2 * n : 2 * n + 2], 16) << 8 * n for n in range(8))


def test_a_source_has_key_stream_and_fields():
    source = Source(0x0123456789ABCDEF, "a", builtin("normal8"), 0.5, "float32")
    assert source.key == (0x89ABCDEF, 0x01234567)
    assert source.stream == stream_of("a")
    assert source.fields == 4
    assert ALGORITHM == "philox4x32-10"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**64}, "outside 0"),
        ({"dtype": "float64"}, "float64"),
        ({"name": "\ud800"}, "UTF-8"),
    ],
)
def test_a_source_refuses_what_has_no_stream(change, message):
    good = {"seed": 0, "name": "a", "table": builtin("sign1"), "scale": 1.0, "dtype": "float32"}
    Source(**good)
    with pytest.raises(UnsupportedError, match=message) as caught:
        Source(**{**good, **change})
    assert caught.value.hint
