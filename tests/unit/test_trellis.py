"""The coding ``trellis8``: kernels beside NumPy, errors kept, packs of coded adapters."""

import numpy as np
import pytest
import torch
from extent import crossed
from torch import nn

import lottapack
from lottapack.codecs import trellis, trellis_stream, trellis_writer
from lottapack.codecs.faults import CodingFaultError
from lottapack.codecs.trellis import Grid
from lottapack.codecs.trellis_tables import lanes_of
from lottapack.errors import CheckpointError, UnsupportedError

SHAPES = [(40, 512), (300, 33), (9,), (1, 1), (17, 3, 5)]


def normal(shape, seed=1):
    """Values whose rows differ in size."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.normal(size=(shape[0],) + (1,) * (len(shape) - 1)))
    return (rng.normal(size=shape) * sizes).astype(np.float32).reshape(-1)


def decoded(data, shape):
    """Its values."""
    bits = np.empty(int(np.prod(shape)), np.uint32)
    trellis.decode(data, shape, bits, lambda part: part.view(np.uint32))
    return bits.view(np.float32)


def error(values, made):
    """Root mean square, as part of the values' own."""
    return float(np.sqrt(np.mean((values - made) ** 2, dtype=float) / np.mean(values**2, dtype=float)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("wanted", [0.003, 0.05, 0.4])
def test_the_error_is_kept_and_numpy_decodes_the_same(shape, wanted, monkeypatch):
    values = normal(shape)
    data = trellis_writer.encode(values, shape, wanted)
    made = decoded(data, shape)
    assert error(values, made) <= wanted
    assert trellis_writer.encode(values, shape, wanted) == data
    monkeypatch.setattr(trellis_stream, "_DECODE", no_kernel)
    assert decoded(data, shape).tobytes() == made.tobytes()


LANES = [(300, 250), (521, 512), (65, 1 << 12), (7, 1 << 15)]


@pytest.mark.parametrize(("shape", "coded"), crossed(LANES, [(0.5, 1.0), (0.02, 1.0), (0.002, 3.0)]), ids=str)
def test_many_lanes_decode_as_in_numpy(shape, coded, monkeypatch):
    """With 16 lanes or more vectors decode: rows end in the midst of them, and raw bits are rare, mixed or usual."""
    step, spread = coded
    values = normal(shape, 3) * spread
    assert lanes_of(values.size) >= 16
    data = trellis_writer.encode(values, shape, step)
    made = decoded(data, shape)
    monkeypatch.setattr(trellis_stream, "_DECODE", no_kernel)
    assert decoded(data, shape).tobytes() == made.tobytes()
    for short in range(1, 5):
        with pytest.raises(CodingFaultError):
            decoded(data[: -2 * short], shape)


def no_kernel(*_):
    raise UnsupportedError("no kernel")


def test_slots_follow_the_frequencies():
    tables = [[2048], [0, 2000, 48], [1, *range(1, 64), 31], [1] * 103 + [1945]]
    expected = []
    for shares in tables:
        assert sum(shares) == 2048
        for magnitude, share in enumerate(shares):
            for sign in (0, 1) if magnitude else (0,):
                frequency = share if magnitude else 2 * share
                expected += [sign << 31 | magnitude << 24 | at << 12 | (frequency - 1) for at in range(frequency)]
    assert trellis_stream.slots_of(tables).tolist() == expected


@pytest.mark.parametrize("columns", [False, True])
def test_what_was_decoded_is_encoded_to_the_same_bytes(columns):
    values = normal((60, 400))
    shape = (400, 60) if columns else (60, 400)
    if columns:
        values = np.ascontiguousarray(values.reshape(60, 400).T).reshape(-1)
    data = trellis_writer.encode(values, shape, 0.05)
    assert data[0] == columns
    assert trellis_writer.encode(decoded(data, shape), shape, 0.05) == data


def test_fewer_bits_than_the_entropy_of_rounded_values():
    values = np.random.default_rng(2).normal(size=1 << 17).astype(np.float32)
    data = trellis_writer.encode(values, (256, 512), 0.05)
    step = 0.05 * 12**0.5 * np.sqrt(np.mean(values**2))
    shares = np.unique(np.rint(values / step), return_counts=True)[1] / values.size
    assert 8 * len(data) / values.size < -(shares * np.log2(shares)).sum() - 0.14


@pytest.mark.parametrize("shape", [(256, 512), (64, 2048), (512, 160)], ids=str)
@pytest.mark.parametrize("wanted", [0.005, 0.045, 0.3])
def test_at_most_two_hundredths_above_the_entropy_of_its_levels(shape, wanted):
    """Tables, states and step included; the entropy is that of the levels that it chose, given the quantiser."""
    values = np.random.default_rng(3).normal(size=shape).astype(np.float32).reshape(-1)
    data = trellis_writer.encode(values, shape, wanted)
    step = float((np.frombuffer(data[2:4], "<u2").astype(np.uint32) << 16).view(np.float32)[0])
    coded = decoded(data, shape)
    ordered = coded.reshape(shape).T.reshape(-1) if data[0] else coded
    levels = trellis_writer._levels_of(np.rint(ordered / np.float32(step)).astype(np.int32), lanes_of(values.size))
    grid = Grid.of(shape, bool(data[0]))
    seconds, _ = trellis_stream.counted(levels, lanes_of(values.size), np.zeros(grid.rows, np.uint8), 1, grid.length)
    bits = 0.0
    for quantiser in (0, 1):
        counts = np.unique(levels[seconds == quantiser], return_counts=True)[1]
        bits -= float((counts * np.log2(counts / counts.sum())).sum())
    assert 8 * len(data) <= 1.02 * bits


def test_a_far_value_does_not_widen_the_step():
    values = normal((64, 64))
    values[100] = 2000
    assert error(values, decoded(trellis_writer.encode(values, (64, 64), 0.001), (64, 64))) <= 0.001


def test_zeros_are_left_to_other_codings():
    assert trellis_writer.encode(np.zeros(100, np.float32), (100,), 0.1) is None


def test_damaged_bytes_are_refused_or_decode_to_something():
    """No change of a byte makes the kernel read beyond its arrays, or anything but a typed fault."""
    shape = (20, 30)
    data = trellis_writer.encode(normal(shape), shape, 0.1)
    refused = 0
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x41
        try:
            decoded(bytes(changed), shape)
        except CodingFaultError:
            refused += 1
    assert refused > len(data) * 0.9
    for length in range(len(data)):
        with pytest.raises(CodingFaultError):
            decoded(data[:length], shape)


@pytest.fixture
def model():
    """A trained model: adapters with values of their own."""
    net = nn.Sequential(nn.Embedding(200, 64), nn.Linear(64, 96), nn.Linear(96, 200))
    made = lottapack.scaffold(net, seed=3, rank=16)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in made.named_parameters():
            if not name.endswith("beta"):
                value.copy_(torch.randn(value.shape, generator=generator) * 0.05)
    return made


@pytest.mark.parametrize("coding", ["trellis8@0.02", {"adapters": "trellis8@0.02"}, {"adapters": "planes-zlib"}])
def test_coded_adapters_are_loaded_as_they_decode(coding, model, tmp_path):
    pack, plain = tmp_path / "a.lotta.safetensors", tmp_path / "b.lotta.safetensors"
    result = lottapack.pack(model, pack, compression=lottapack.Compression(coding=coding))
    lottapack.pack(model, plain)
    kept = {one.name: one for one in result.kept if one.group == "adapter"}
    assert len(kept) >= 2
    lossy = coding != {"adapters": "planes-zlib"}
    loaded = lottapack.load(pack).state_dict()
    for name, before in model.state_dict().items():
        if name in kept:
            found = error(before.numpy(), loaded[name].numpy())
            assert found == pytest.approx(kept[name].rms, rel=1e-6, abs=1e-12)
            assert (0 < found <= 0.02) is lossy
    assert lottapack.verify(pack).ok
    forms = {one.name: one.coding for one in lottapack.inspect(pack).parameters}
    assert forms["1.weight"] == ("trellis8" if lossy else "planes-zlib")
    again = tmp_path / "again.lotta.safetensors"
    lottapack.pack(lottapack.load(pack), again, compression=lottapack.Compression(coding=coding))
    assert again.read_bytes() == pack.read_bytes()
    if coding == "trellis8@0.02":
        assert pack.stat().st_size < plain.stat().st_size / 2
    merged = lottapack.load(pack, merge=True).state_dict()
    arrays = lottapack.numpy.load(pack)
    for name, weight in merged.items():
        assert np.allclose(arrays[name], weight.numpy(), atol=1e-5)


def test_the_largest_size_is_kept_with_the_least_error(model, tmp_path):
    pack = tmp_path / "a.lotta.safetensors"
    exact = lottapack.pack(model, pack).size
    worst = 0.0
    for limit in (int(exact * 0.4), int(exact * 0.25)):
        result = lottapack.pack(model, pack, compression=lottapack.Compression(max_size=limit))
        assert result.size == pack.stat().st_size <= limit
        assert result.size > 0.97 * limit
        found = max(kept.rms for kept in result.kept)
        assert found > worst
        worst = found
        assert {cost.group for cost in result.costs} >= {"adapters"}
    with pytest.raises(CheckpointError, match="the smallest pack"):
        lottapack.pack(model, pack, compression=lottapack.Compression(max_size=900))


@pytest.mark.parametrize("coding", ["trellis8@0", "trellis8@x", "trellis8@1", "int8-block64@0.1"])
def test_errors_that_are_none(coding, model, tmp_path):
    with pytest.raises(CheckpointError, match="above 0 and below 1"):
        lottapack.pack(model, tmp_path / "a.lotta.safetensors", compression=lottapack.Compression(coding=coding))


CLOSE = {
    "constant": lambda z: np.full_like(z, 0.1),
    "ones": np.ones_like,
    "norm": lambda z: 1 + 0.1 * z,
    "two": lambda z: np.where(z > 0, 0.3, -0.7),
    "one line": lambda z: np.where(np.arange(z.size) == z.size - 1, 1e-3, 0),
    "columns": lambda z: z.reshape(40, 50) * np.geomspace(1, 100, 50),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", CLOSE)
def test_decoded_values_are_coded_as_before(kind, dtype):
    """Otherwise values that are all close, as the weights of a norm, drift each time a model is packed again."""
    shape = (40, 50)
    given = CLOSE[kind](np.random.default_rng(0).normal(size=2000)).reshape(-1).astype(np.float32)
    for wanted in (0.02, 0.05):
        data = trellis_writer.encode(trellis_writer._rounded(given, dtype), shape, wanted, dtype)
        made = trellis_writer._rounded(decoded(data, shape), dtype)
        assert error(given, made) <= wanted * 1.1
        assert trellis_writer.encode(made, shape, wanted, dtype) == data
