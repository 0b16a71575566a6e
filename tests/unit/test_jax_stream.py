"""The stream in JAX: bits equal to NumPy's for every table, dtype and part, on one device and on four."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from extent import crossed, extent

import lottapack
from lottapack.errors import DeviceError, PlacementError, UnsupportedError
from lottapack.rng import BUILTIN, Source, builtin, custom, fill_bits, selfcheck

jax = pytest.importorskip("jax")

from lottapack.jax import stream  # noqa: E402
from lottapack.jax.stream import elements  # noqa: E402

DTYPES = ("float32", "bfloat16", "float16")
SHAPES = ((), (7,), (0, 4), (3, 5, 1), (2, 3, 5, 7), (4096, 17))


def bits(array):
    array = np.asarray(array)
    return array.view(f"u{array.dtype.itemsize}")


def expected(source, shape, start=0):
    found = np.empty(int(np.prod(shape)), "u4" if source.dtype == "float32" else "u2")
    fill_bits(found, source, start)
    return found.reshape(shape)


# A table is entries in a dtype, which the same look-up takes.
@pytest.mark.parametrize(("distribution", "dtype"), crossed(BUILTIN, DTYPES))
def test_every_table_and_dtype_has_its_bits(distribution, dtype):
    shape = (70, 1100)
    found = lottapack.jax.draw("a.weight", shape, seed=2**63 + 5, distribution=distribution, scale=0.3, dtype=dtype)
    source = Source(2**63 + 5, "a.weight", builtin(distribution), float(np.float32(0.3)), dtype, shape)
    assert (found.shape, found.dtype) == (shape, jax.numpy.dtype(dtype))
    assert np.array_equal(bits(found), expected(source, shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_has_its_bits(shape):
    for distribution in ("normal4", "hadamard"):
        found = lottapack.jax.draw("b", shape, seed=2**64 - 1, distribution=distribution)
        source = Source(2**64 - 1, "b", builtin(distribution), 1.0, "float32", shape)
        assert found.shape == shape
        assert np.array_equal(bits(found), expected(source, shape))


@pytest.mark.parametrize("width", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("start", [0, 1, 1023, 65_537, 2**32 - 3, 2**42 + 12_345, 2**63 - 9000])
def test_runs_begin_anywhere(width, start):
    table = custom("own", np.random.default_rng(width).normal(size=2**width))
    source = Source(7, "w", table, 1.0, "float32")
    found = lottapack.jax.draw("w", 9000, seed=7, distribution=table, start=start)
    assert np.array_equal(bits(found), expected(source, (9000,), start))


# A part is the same arithmetic for every width of a table's index; the widths have the test above.
@pytest.mark.parametrize("distribution", extent(["normal16", "hadamard"], ["normal16", "normal4", "sign1", "hadamard"]))
@pytest.mark.parametrize(("shape", "part"), [
    ((40, 50), (slice(3, 9), slice(0, 50))),
    ((40, 50), (slice(0, 40), slice(17, 31))),
    ((40, 50), (slice(5, 6), slice(7, 33))),
    ((50, 40), (slice(11, 50), slice(1, 2))),
    ((3000,), (slice(1000, 2500),)),
    ((6, 7, 8), (slice(1, 5), slice(2, 3), slice(0, 8))),
    ((6, 7, 8), (slice(1, 5), slice(2, 6), slice(3, 7))),
    ((6, 7, 8), (slice(2, 2), slice(2, 6), slice(3, 7))),
])  # fmt: skip
def test_parts_are_those_of_the_whole(distribution, shape, part):
    source = Source(3, "w", builtin(distribution), 1.0, "float32", shape)
    assert np.array_equal(bits(elements(source, shape, 0, part, None)), expected(source, shape)[part])


def test_parts_far_into_a_tensor_have_their_bits():
    """A tensor of 2**43 elements, of which no device holds more than a corner."""
    shape, part = (2**20, 2**23), (slice(2**19 + 1, 2**19 + 3), slice(2**22 - 1, 2**22 + 4))
    source = Source(3, "w", builtin("normal8"), 1.0, "bfloat16", shape)
    found = bits(elements(source, shape, 5, part, None))
    rows = [expected(source, (5,), 5 + row * shape[1] + part[1].start) for row in range(part[0].start, part[0].stop)]
    assert np.array_equal(found, rows)


def test_a_jit_traces_it_with_and_without_64_bits():
    def product(x):
        return x @ lottapack.jax.draw("w", (64, 96), seed=1, distribution="normal8", dtype=jax.numpy.bfloat16)

    eye = np.eye(64, dtype=jax.numpy.bfloat16)
    source = Source(1, "w", builtin("normal8"), 1.0, "bfloat16")
    assert np.array_equal(bits(jax.jit(product)(eye)), expected(source, (64, 96)))
    with jax.enable_x64(True):
        assert np.array_equal(bits(jax.jit(product)(eye)), expected(source, (64, 96)))


def test_subnormal_numbers_stay():
    table = custom("tiny", [1.0, 2.0])
    scale = 2.0**-23  # subnormal in float16
    found = lottapack.jax.draw("w", 100, seed=1, distribution=table, scale=scale, dtype="float16")
    assert np.array_equal(bits(found), expected(Source(1, "w", table, scale, "float16"), (100,)))
    assert {*bits(found).tolist()} == {2, 4}


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"seed": -1}, UnsupportedError, "the seed -1"),
        ({"dtype": "float64"}, UnsupportedError, "float64"),
        ({"dtype": jax.numpy.int32}, UnsupportedError, "int32"),
        ({"dtype": object()}, UnsupportedError, "cannot draw in <object"),
        ({"scale": 1e-40}, UnsupportedError, "scale"),
        ({"start": 2**63}, UnsupportedError, "exceeds the stream"),
        ({"distribution": "hadamard", "start": 1}, UnsupportedError, "exceed a matrix"),
        ({"device": "cpu"}, PlacementError, "neither a device nor a sharding"),
    ],
)
def test_wrong_arguments_are_refused(change, error, said):
    with pytest.raises(error, match=said):
        lottapack.jax.draw(**{"name": "w", "shape": (4, 4), "seed": 1, **change})


def test_a_device_gives_known_answers_first(monkeypatch):
    """Also where the first use is traced; and nothing comes of one that computes other bits."""
    monkeypatch.setattr(selfcheck, "_passed", set())
    traced = jax.jit(lambda: lottapack.jax.draw("w", (4, 4), seed=1))
    assert np.array_equal(bits(traced()), bits(lottapack.numpy.draw("w", (4, 4), seed=1)))
    assert "jax" in {backend for backend, _ in selfcheck._passed}
    monkeypatch.setattr(selfcheck, "_passed", set())
    monkeypatch.setattr(
        stream, "_looked_up", lambda table, *index: jax.numpy.asarray(table)[index] ^ table.dtype.type(1)
    )
    jax.clear_caches()
    with pytest.raises(DeviceError, match="the backend 'jax' computes wrong bits on 'cpu"):
        lottapack.jax.draw("w", (4, 4), seed=1)
    jax.clear_caches()


def test_a_device_inside_jit_is_refused():
    @jax.jit
    def traced():
        return lottapack.jax.draw("w", (4, 4), seed=1, device=jax.devices()[0])

    with pytest.raises(UnsupportedError, match=r"cannot be used inside jax\.jit"):
        traced()


@pytest.mark.slow
def test_each_of_four_devices_makes_its_part():
    program = Path(__file__).with_name("jax_shards.py")
    # Most of the time is XLA's compiler. The other tests are of what it makes with all its optimisations.
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"}
    flags["JAX_PLATFORMS"] = "cpu"
    done = subprocess.run(
        [sys.executable, program, *extent(["every_role", "experts", "seeded_factors"], [])],
        capture_output=True,
        text=True,
        env=os.environ | flags,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "same bits\n"
