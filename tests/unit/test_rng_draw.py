import numpy as np
import pytest
import torch

from lottapack.errors import LottapackError, UnsupportedError
from lottapack.rng import Source, binary32, builtin, custom, reference
from lottapack.weights.drawing import draw


def test_draw_gives_the_elements_of_the_stream():
    weight = draw("0.weight", (30, 50), seed=42, scale=0.1, start=7)
    expected = reference.elements(Source(42, "0.weight", builtin("normal16"), binary32(0.1), "float32"), 7, 1500)
    assert weight.shape == (30, 50)
    assert np.array_equal(weight.numpy().view(np.uint32).reshape(-1), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_draw_rounds_once(dtype):
    plain = draw("a", 1000, seed=1, distribution="uniform16")
    assert torch.equal(draw("a", 1000, seed=1, distribution="uniform16", dtype=dtype), plain.to(dtype))


def test_draw_takes_a_table_of_ones_own():
    table = custom("ternary", [-1.0, 0.0, 0.0, 1.0])
    assert set(draw("a", (2, 500), seed=1, distribution=table, scale=2).unique().tolist()) == {-2.0, 0.0, 2.0}


@pytest.mark.parametrize("shape", [7, (7,), [7], torch.Size([7]), (np.int64(7),)])
def test_shapes(shape):
    assert draw("a", shape, seed=1).shape == (7,)
    assert draw("a", (), seed=1).shape == ()
    assert draw("a", (0, 4), seed=1).shape == (0, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**64}, "seed 18446744073709551616"),
        ({"distribution": "gauss"}, "unknown distribution 'gauss'"),
        ({"dtype": torch.float64}, "float64"),
        ({"dtype": torch.int8}, "int8"),
        ({"scale": 0.0}, "scale 0.0"),
        ({"scale": -1.0}, "scale -1.0"),
        ({"scale": float("nan")}, "scale nan"),
        ({"scale": 1e300}, "scale inf"),
        ({"shape": (2, -1)}, "is not a shape"),
        ({"shape": (2, 1.5)}, "is not a shape"),
        ({"shape": "23"}, "is not a shape"),
        ({"shape": None}, "is not a shape"),
        ({"start": -1}, "the range -1"),
        ({"start": 2**63}, "exceeds the stream"),
        ({"device": "meta"}, "'meta'"),
    ],
)
def test_arguments_out_of_range(change, message):
    arguments = {"name": "a", "shape": (2, 3), "seed": 1, **change}
    with pytest.raises(UnsupportedError, match=message) as caught:
        draw(arguments.pop("name"), arguments.pop("shape"), **arguments)
    assert isinstance(caught.value, LottapackError)
    assert caught.value.hint


def test_names_and_seeds_are_independent_streams():
    one, other, third = draw("a", 1000, seed=1), draw("b", 1000, seed=1), draw("a", 1000, seed=2)
    assert (one == other).sum() < 10
    assert (one == third).sum() < 10
