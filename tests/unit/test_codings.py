"""Codings of stored tensors: exact decoding, repeated packing, measured errors, refusals."""

import itertools
import json

import models
import numpy as np
import pytest
import torch
from torch import nn

import lottapack
from lottapack.codecs import CODECS, PlanesZlib
from lottapack.codecs.base import LEVELS, STEP
from lottapack.codecs.blocks import Blocks
from lottapack.codecs.faults import UnfitError
from lottapack.packing.storing import errors
from lottapack.rng.tables import round_bits

BLOCKS = [codec.id for codec in CODECS.values() if isinstance(codec, Blocks)]
DTYPES = ("float32", "bfloat16", "float16")


def bits_of(values, dtype):
    return round_bits(np.asarray(values, np.float32), dtype)


def wide(bits, dtype):
    if dtype == "bfloat16":
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return bits.view(np.float32 if dtype == "float32" else np.float16).astype(np.float32)


def decoded(count, dtype, coding, codes, scales):
    out = bytearray(count * (4 if dtype == "float32" else 2))
    CODECS[coding].decode({"codes": codes.data, "scales": scales.data}, (count,), dtype, memoryview(out))
    return wide(np.frombuffer(out, np.uint32 if dtype == "float32" else np.uint16), dtype)


def encode_blocks(values, dtype, coding):
    made = CODECS[coding].encode(bits_of(values, dtype), (len(values),), dtype, 0)
    return made["codes"], made["scales"]


def sample(scale, dtype, count=64 * 40 + 17, seed=0):
    """Numbers with long tails."""
    draws = np.random.default_rng(seed)
    values = draws.standard_normal(count) * np.exp(draws.standard_normal(count)) * scale
    return wide(bits_of(np.clip(values, -65504, 65504), dtype), dtype)


@pytest.mark.parametrize("scale", [1e-9, 6e-8, 1e-7, 1e-6, 1e-5, 1e-3, 1.0, 3e4])
@pytest.mark.parametrize(("coding", "dtype"), list(itertools.product(BLOCKS, DTYPES)))
def test_what_was_decoded_is_encoded_to_the_same_codes(coding, dtype, scale):
    values = sample(scale, dtype)
    codes, scales = encode_blocks(values, dtype, coding)
    once = decoded(len(values), dtype, coding, codes, scales)
    again = encode_blocks(once, dtype, coding)
    assert np.array_equal(again[0], codes)
    assert np.array_equal(again[1], scales)


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 127, 129])
@pytest.mark.parametrize(("coding", "dtype"), list(itertools.product(BLOCKS, DTYPES)))
def test_blocks_of_any_length(coding, dtype, count):
    values = sample(1.0, dtype, count)
    made = encode_blocks(values, dtype, coding)
    found = decoded(count, dtype, coding, *made)
    peaks = [np.abs(values[first : first + 64]).max() for first in range(0, count, 64)]
    limit = np.repeat(peaks, 64)[:count] * (0.51 / 127 if coding == "int8-block64" else 0.24)
    rounding = {"float32": 0.0, "bfloat16": 2.0**-8, "float16": 2.0**-10}[dtype]
    assert (np.abs(found - values) <= limit + np.abs(values) * rounding).all()


@pytest.mark.parametrize("coding", BLOCKS)
def test_long_tensors_are_decoded_in_steps(coding):
    """The vectors have fewer elements than a step, of which this has two and a part."""
    count, draws = 2 * STEP + 65, np.random.default_rng(1)
    scales = draws.integers(0x2000, 0x3C00, -(-count // 64)).astype("<u2")
    if coding == "int8-block64":
        codes = numbers = draws.integers(-127, 128, count).astype(np.int8)
    else:
        nibbles = draws.integers(0, 16, count + 1).astype(np.uint8) * (np.arange(count + 1) < count)
        codes, numbers = nibbles[::2] | nibbles[1::2] << 4, np.array(LEVELS)[nibbles[:count]]
    due = numbers.astype(np.float32) * np.repeat(scales.view("<f2").astype(np.float32), 64)[:count]
    assert np.array_equal(decoded(count, "float32", coding, codes, scales).view(np.uint32), due.view(np.uint32))


@pytest.mark.parametrize("coding", BLOCKS)
def test_zeros_stay_zero(coding):
    values = np.zeros(200, np.float32)
    values[130] = 1.0
    values[5] = -0.0
    codes, scales = encode_blocks(values, "float32", coding)
    found = decoded(200, "float32", coding, codes, scales)
    assert abs(found[130] - 1.0) < (0.001 if coding == "int8-block64" else 0.13)
    assert not found[:128].any()
    assert not np.signbit(found[:128]).any()


@pytest.mark.parametrize("coding", BLOCKS)
def test_the_largest_float16_stays_finite(coding):
    values = np.full(70, 65504.0, np.float32)
    found = decoded(70, "float16", coding, *encode_blocks(values, "float16", coding))
    assert np.isfinite(found).all()
    assert (found > 65000).all()


@pytest.mark.parametrize("coding", BLOCKS)
def test_values_that_no_scale_reaches_are_refused(coding):
    with pytest.raises(UnfitError, match="beyond"):
        encode_blocks(np.full(3, 1e7, np.float32), "float32", coding)


def test_normal_data_has_the_error_of_the_decision():
    values = np.random.default_rng(1).standard_normal(64 * 4000).astype(np.float32)
    limit = {"int8-block64": 4e-5, "normal4-block64": 0.0076}
    for coding in BLOCKS:
        found = decoded(len(values), "float32", coding, *encode_blocks(values, "float32", coding))
        assert np.square(found - values).mean() < limit[coding]


def test_planes_are_the_bytes_in_order():
    import zlib

    data = np.arange(24, dtype=np.uint8)
    assert zlib.decompress(PlanesZlib().encode(data, (6,), "float32", 0)["codes"]) == bytes(
        data.reshape(6, 4).T.reshape(-1)
    )


def test_errors_are_measured_against_the_root_mean_square():
    before = torch.tensor([3.0, -4.0])
    assert errors(before, torch.tensor([3.5, -4.0])) == pytest.approx(
        (0.5 / 12.5**0.5, 0.25 / 12.5**0.5, 0.125**0.5 / 12.5**0.5), rel=1e-12
    )
    assert errors(torch.zeros(3), torch.zeros(3)) == (0.0, 0.0, 0.0)
    assert errors(torch.zeros(2), torch.tensor([0.0, 1.0]))[0] == float("inf")


def trained(dtype=torch.float32):
    torch.manual_seed(3)
    net = nn.Sequential(nn.Embedding(300, 20), nn.Linear(20, 24), nn.LayerNorm(24), nn.Linear(24, 60)).to(dtype)
    model = models.train(lottapack.scaffold(net, seed=5, rank=2))
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(300, 20) * 0.05)
        model[2].weight.copy_(1 + torch.randn(24) * 0.1)
    return model


def entries(path):
    with lottapack.open_pack(path) as pack:
        return pack.descriptor.parameters


Compression = lottapack.Compression
FORMS = [
    Compression(dtype="float16"),
    Compression(dtype=torch.bfloat16),
    Compression(coding="int8-block64"),
    Compression(coding="normal4-block64"),
    Compression(coding="planes-zlib"),
    Compression(dtype="float16", coding={"embeddings": "normal4-block64", "heads": "int8-block64"}),
    Compression(dtype="bfloat16", coding={"*": "planes-zlib", "heads": "int8-block64"}),
]


@pytest.mark.filterwarnings("ignore:dtype=.*float16 had no effect")  # in models that are already narrow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_packing_what_was_loaded_gives_the_same_file(form, dtype, tmp_path):
    first = lottapack.pack(trained(dtype), tmp_path / "1.lotta.safetensors", compression=form)
    loaded = lottapack.load(first.path)
    second = lottapack.pack(loaded, tmp_path / "2.lotta.safetensors", compression=form)
    assert second.path.read_bytes() == first.path.read_bytes()
    assert all(kept.worst == 0 for kept in second.kept)
    assert lottapack.verify(first.path).ok
    assert loaded(torch.tensor([[1, 299]])).isfinite().all()


def test_what_is_kept_and_what_is_not(tmp_path):
    model = trained()
    form = Compression(dtype="float16", coding="int8-block64")
    result = lottapack.pack(model, tmp_path / "a.lotta.safetensors", compression=form)
    forms = {kept.name: kept.form for kept in result.kept}
    assert forms["0.weight"] == "int8-block64"
    assert forms["3.weight"] == "float16"
    assert forms["1.lora_A"] == "float16"
    assert "1.beta" not in forms
    assert "2.weight" not in forms  # 24 numbers: nothing to save
    found = entries(result.path)
    assert found["0.weight"].dtype == "float32"
    assert found["1.weight"].adapter.lora_A.dtype == "float16"
    kept = {one.name: one for one in result.kept}
    state = lottapack.load(result.path).state_dict()
    for name in forms:
        before, after = model.state_dict()[name], state[name]
        assert after.dtype == before.dtype
        worst, mean, _ = errors(before, after)
        assert (kept[name].worst, kept[name].mean) == (worst, mean)
        assert 0 < mean < worst < 0.05
    assert torch.equal(state["2.weight"], model.state_dict()["2.weight"])


def test_planes_lose_nothing(tmp_path):
    model = trained()
    plain = lottapack.pack(model, tmp_path / "a.lotta.safetensors")
    packed = lottapack.pack(model, tmp_path / "b.lotta.safetensors", compression=Compression(coding="planes-zlib"))
    assert packed.size < plain.size
    assert {kept.worst for kept in packed.kept} == {0.0}
    before, after = (lottapack.load(one.path).state_dict() for one in (plain, packed))
    for name, tensor in before.items():
        if name != "lottapack_recipe":
            assert torch.equal(tensor.view(torch.int32), after[name].view(torch.int32))


def test_everything_reads_a_coded_pack(tmp_path):
    packed = lottapack.pack(
        trained(), tmp_path / "a.lotta.safetensors", compression=Compression(coding="normal4-block64")
    ).path
    model = lottapack.load(packed)
    plain = lottapack.load(packed, merge=True).state_dict()
    assert torch.equal(plain["0.weight"], model.state_dict()["0.weight"])
    written = lottapack.export(packed, tmp_path / "full.safetensors")
    from safetensors.torch import load_file

    assert all(torch.equal(tensor, plain[name]) for name, tensor in load_file(written).items())
    summary = {one.name: one.coding for one in lottapack.inspect(packed).parameters}
    assert summary["0.weight"] == "normal4-block64"
    assert summary["2.weight"] is None
    sizes = lottapack.report(packed)
    assert sum(sizes.by_group.values()) == sum(sizes.by_role.values()) == packed.stat().st_size
    held = 300 * 20 // 2 + 2 * -(-300 * 20 // 64)
    assert sizes.by_group["embeddings"] == held
    assert sizes.bits_by_group["embeddings"] == 8 * held / (300 * 20)
    assert sizes.saved["codings"] == 4 * 300 * 20 - held
    checks = {(check.what, check.where) for check in lottapack.verify(packed).checks}
    assert ("coding", "0.weight") in checks


def test_adapters_that_a_coding_does_not_make_smaller_get_the_dtype(tmp_path):
    net = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3))
    model = models.train(lottapack.scaffold(net, seed=1, rank=2, targets="*"))
    forms = lottapack.Compression(dtype="float16", coding={"adapters": "trellis8"})
    with pytest.warns(lottapack.errors.UnusedOptionWarning, match="coding adapters=trellis8 had no effect"):
        kept = lottapack.pack(model, tmp_path / "a", compression=forms).kept
    assert {(one.name, one.form) for one in kept} == {
        (f"{layer}.{factor}", "float16") for layer in range(3) for factor in ("lora_A", "lora_B")
    }
    loaded = lottapack.load(tmp_path / "a")
    assert torch.equal(loaded[0].lora_A, model[0].lora_A.half().float())


@pytest.mark.filterwarnings("ignore::lottapack.errors.UnusedOptionWarning")
def test_patterns_go_before_groups(tmp_path):
    def forms(**options):
        result = lottapack.pack(trained(), tmp_path / "a.lotta.safetensors", compression=Compression(**options))
        return {kept.name: (kept.form, 0 if kept.rms == 0 else kept.rms > 0.1) for kept in result.kept}

    coding = {"embeddings": "planes-zlib", "0.weight": "int8-block64", "3.weight": "trellis8@0.3"}
    assert forms(coding=coding) == {"0.weight": ("int8-block64", False), "3.weight": ("trellis8", True)}
    found = forms(coding={"0.weight": "int8-block64"}, max_size=14_000)
    assert found["0.weight"][0] == "int8-block64"
    assert found["3.weight"][0] == "trellis8"


@pytest.mark.parametrize("coding", [{"5.*": "trellis8"}, {"*.weight": "planes-zlib", "0.weight": "trellis8"}], ids=str)
def test_patterns_that_decide_nothing_are_refused(coding, tmp_path):
    refused(tmp_path, trained(), "decides nothing", coding=coding)


def refused(tmp_path, model, match, *, allow_nonfinite=False, **form):
    with pytest.raises((lottapack.errors.CheckpointError, lottapack.errors.UnsupportedError), match=match):
        lottapack.pack(
            model, tmp_path / "no.lotta.safetensors", allow_nonfinite=allow_nonfinite, compression=Compression(**form)
        )
    assert list(tmp_path.iterdir()) == []


def test_an_error_over_the_bound_is_refused(tmp_path):
    refused(
        tmp_path,
        trained(),
        r"0\.weight as normal4-block64 .* max_error is 0\.05",
        coding="normal4-block64",
        max_error=0.05,
    )
    refused(tmp_path, trained(), "as float16 .* more tensors", dtype="float16", coding="planes-zlib", max_error=1e-6)
    form = Compression(coding="int8-block64", max_error=0.05)
    result = lottapack.pack(trained(), tmp_path / "a.lotta.safetensors", compression=form)
    assert result.size == result.path.stat().st_size


@pytest.mark.parametrize(
    ("match", "options"),
    [
        ("unknown coding 'int4'", {"coding": "int4"}),
        ("unknown coding 'float16'", {"coding": "float16"}),
        ("unknown group 'embedding'", {"coding": {"embedding": "planes-zlib"}}),
        ("dtype=int8", {"dtype": torch.int8}),
        ("dtype=f16", {"dtype": "f16"}),
        ("max_error=nan`: .* above 0", {"coding": "planes-zlib", "max_error": float("nan")}),
        ("max_error=-1`: .* above 0", {"coding": "planes-zlib", "max_error": -1}),
        ("max_size=0", {"max_size": 0}),
        ("max_size=True", {"max_size": True}),
        ("`max_size` and `max_error` exclude each other", {"max_size": 9, "max_error": 0.1}),
        ("coding=5", {"coding": 5}),
    ],
)
def test_wrong_arguments_are_refused(match, options, tmp_path):
    refused(tmp_path, trained(), match, **options)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_values_without_a_code_are_refused(value, tmp_path):
    model = trained()
    with torch.no_grad():
        model[0].weight[7, 3] = value
    for options in ({"coding": "int8-block64"}, {"dtype": "bfloat16"}):
        refused(tmp_path, model, r"0\.weight contains infinity or NaN", allow_nonfinite=True, **options)
    form = Compression(coding="planes-zlib")
    packed = lottapack.pack(model, tmp_path / "a.lotta.safetensors", compression=form, allow_nonfinite=True).path
    assert torch.equal(lottapack.load(packed)[0].weight.view(torch.int32), model[0].weight.view(torch.int32))


def test_values_beyond_float16_are_refused(tmp_path):
    model = trained()
    with torch.no_grad():
        model[0].weight[7, 3] = 70000.0
    refused(tmp_path, model, r"0\.weight contains 70000, which is outside the range of float16", dtype="float16")
    with torch.no_grad():
        model[0].weight[7, 3] = 0.0
        model[1].lora_B[0, 0] = -1e6
    refused(tmp_path, model, r"1\.lora_B contains 1e\+06", dtype="float16")
    lottapack.pack(model, tmp_path / "a.lotta.safetensors", compression=Compression(dtype="bfloat16"))


def test_what_a_form_would_cost_asks_for_no_form(tmp_path):
    """The costs are measured for every form; one that cannot hold a value is left out."""
    model = trained()
    with torch.no_grad():
        model[0].weight[7, 3] = 70000.0
    packed = lottapack.pack(model, tmp_path / "a.lotta.safetensors", compression=Compression(max_error=0.05))
    forms = {cost.form for cost in packed.costs if cost.group == "embeddings"}
    assert "float16" not in forms
    assert "int8-block64" in forms
    assert lottapack.verify(packed.path).ok


def test_a_coded_tensor_that_was_changed_is_found(tmp_path):
    packed = lottapack.pack(
        trained(), tmp_path / "a.lotta.safetensors", compression=Compression(coding="int8-block64")
    ).path
    with lottapack.open_pack(packed) as pack:
        place = pack.data_start + pack.tensors["0.weight.codes"].begin
    data = bytearray(packed.read_bytes())
    data[place] ^= 1
    packed.write_bytes(data)
    with pytest.raises(lottapack.errors.IntegrityError, match=r"0\.weight\.codes: has the SHA-256"):
        lottapack.load(packed)
    failed = [(check.what, check.where) for check in lottapack.verify(packed).checks if check.status == "failed"]
    assert failed == [("sha256", "0.weight.codes")]


def test_the_json_of_an_entry(tmp_path):
    packed = lottapack.pack(
        trained(), tmp_path / "a.lotta.safetensors", compression=Compression(coding="int8-block64")
    ).path
    with lottapack.open_pack(packed) as pack:
        entry = json.loads(pack.descriptor.to_bytes())["parameters"]["0.weight"]
        assert entry["coding"] == {
            "id": "int8-block64",
            "codes": pack.sha256["0.weight.codes"],
            "scales": pack.sha256["0.weight.scales"],
        }
