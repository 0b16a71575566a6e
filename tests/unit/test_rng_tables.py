import hashlib
import math
from statistics import NormalDist

import numpy as np
import pytest

from lottapack.errors import UnsupportedError
from lottapack.rng import BUILTIN, binary32, builtin, custom, scale_fault, scaled_bits, table_fault

TINY = 2.0**-126


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin_tables(name):
    table = builtin(name)
    assert table.id == name
    assert table.bits == int(name.lstrip("abcdefghijklmnopqrstuvwxyz") or 1)
    assert table.values.shape == (2**table.bits,)
    assert table.values.dtype == np.float32
    assert not table.values.flags.writeable
    assert table.sha256 == hashlib.sha256(table.values.astype("<f4").tobytes()).hexdigest()
    assert np.array_equal(table.values, -table.values[::-1])
    assert builtin(name) is table


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_normal_tables_are_quantiles(bits):
    quantiles = [NormalDist().inv_cdf((n + 0.5) / 2**bits) for n in range(2**bits)]
    assert np.array_equal(builtin(f"normal{bits}").values, np.array(quantiles, np.float32))


def test_other_tables_follow_their_formula():
    assert builtin("sign1").values.tolist() == [-1, 1]
    assert builtin("uniform16").values.tolist() == [(2 * n + 1 - 65536) / 65536 for n in range(65536)]


@pytest.mark.parametrize(
    ("name", "std"),
    [
        ("normal16", 0.99999),
        ("normal8", 0.99749),
        ("normal4", 0.96108),
        ("normal2", 0.84405),
        ("uniform16", 0.57735),
        ("sign1", 1),
    ],
)
def test_standard_deviations(name, std):
    values = builtin(name).values.tolist()
    assert round(math.sqrt(math.fsum(x * x for x in values) / len(values)), 5) == std


def test_an_unknown_table_is_refused_with_those_known():
    with pytest.raises(UnsupportedError, match="normal16, normal8"):
        builtin("normal")


def test_a_damaged_table_is_refused(monkeypatch):
    from lottapack.rng import tables

    monkeypatch.setitem(tables._SHA256, "normal2", "0" * 64)
    with pytest.raises(UnsupportedError, match="damaged"):
        builtin.__wrapped__("normal2")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_custom_tables(bits):
    values = np.arange(1, 2**bits + 1, dtype=np.float64) / 3
    table = custom("mine", values)
    assert table.bits == bits
    assert np.array_equal(table.values, values.astype(np.float32))
    assert table == custom("mine", values)
    assert table != custom("other", values)
    values[0] = 7
    assert table.values[0] == np.float32(1 / 3)


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ([1.0], "shape"),
        ([1.0, 2.0, 3.0], "shape"),
        ([[1.0, 2.0]], "shape"),
        ([1.0] * 8, "shape"),
        ([1.0, math.nan], "entry 1 is not finite"),
        ([math.inf, 1.0], "entry 0 is not finite"),
        ([1e39, 1.0], "entry 0 is not finite"),
        ([1.0, 1e-40], "entry 1 is subnormal"),
        ([-0.0, 1.0], "entry 0 is negative zero"),
    ],
)
def test_custom_tables_that_break_the_format(values, fault):
    with pytest.raises(UnsupportedError, match=fault):
        custom("mine", values)
    with np.errstate(over="ignore"):
        assert fault in (table_fault(np.array(values, np.float32)) or "")
    assert table_fault(np.array([0.0, TINY], np.float32)) is None


@pytest.mark.parametrize("name", ["", "Mine", "1st", "a-b", "a" * 65, "normal16", "mine\n"])
def test_custom_tables_need_an_id_of_their_own(name):
    with pytest.raises(UnsupportedError, match="cannot be the id of your own table"):
        custom(name, [0.0, 1.0])


@pytest.mark.parametrize("table_id", BUILTIN)
def test_extremes_are_those_of_the_table(table_id):
    magnitudes = np.abs(builtin(table_id).values)
    assert builtin(table_id).extremes == (float(magnitudes.min()), float(magnitudes.max()))


def test_binary32():
    assert binary32(0.1) == 0.100000001490116119384765625
    assert binary32(1e39) == math.inf


@pytest.mark.parametrize(
    ("values", "scale", "dtype", "fault"),
    [
        ([0.0, 1.0], 0.5, "float32", None),
        ([0.0, 1.0], 0.1, "float32", "binary32"),
        ([0.0, 1.0], 0.0, "float32", "binary32"),
        ([0.0, 1.0], -1.0, "float32", "binary32"),
        ([0.0, 1.0], math.nan, "float32", "binary32"),
        ([0.0, 1.0], math.inf, "float32", "binary32"),
        ([0.0, 1.0], TINY, "float32", None),
        ([0.0, 1.0], TINY / 2, "float32", "the entry 1.0 is"),
        ([0.0, 0.5], TINY, "float32", "the entry 0.5 is"),
        ([1.0, 2.0**100], 2.0**28, "float32", "not a normal binary32"),
        ([1.0, 2.0 - 2.0**-23], 2.0**127, "float32", None),
        ([1.0, 2.0 - 2.0**-23], 2.0**127, "bfloat16", "infinite in bfloat16"),
        ([1.0, 2.0 - 2.0**-7], 2.0**127, "bfloat16", None),
        ([1.0, 65519.0], 1.0, "float16", None),
        ([1.0, 65520.0], 1.0, "float16", "infinite in float16"),
        ([1.0, -65520.0], 1.0, "float16", "infinite in float16"),
        ([1.0, 2.0**-20], 2.0**-10, "float16", None),
    ],
)
def test_scale_faults(values, scale, dtype, fault):
    table = custom("mine", values)
    found = scale_fault(table, scale, dtype)
    if fault is None:
        assert found is None
        assert scaled_bits(table, scale, dtype).shape == (2,)
    else:
        assert fault in found
        with pytest.raises(UnsupportedError, match=fault):
            scaled_bits(table, scale, dtype)


@pytest.mark.parametrize("scale", [2.0**-149, 1.0, 2.0**127])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_any_positive_scale_fits_a_table_of_zeros(scale, dtype):
    zeros = custom("zeros", [0.0, 0.0])
    assert scale_fault(zeros, scale, dtype) is None
    assert not scaled_bits(zeros, scale, dtype).any()
    assert scale_fault(zeros, 0.0, dtype)
    assert scale_fault(zeros, -1.0, dtype)


def test_scaled_bits_round_to_nearest_even():
    table = custom("mine", [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 2.0**-25 * 3])
    assert scaled_bits(table, 1.0, "bfloat16")[:2].tolist() == [0x3F80, 0x3F82]
    assert scaled_bits(table, 1.0, "float16")[2:].tolist() == [0x3C00, 0x0002]
    assert scaled_bits(table, 2.0, "float32")[2] == np.float32(2 + 2**-10).view(np.uint32)
    assert not scaled_bits(table, 2.0, "float32").flags.writeable
    assert scaled_bits(table, 2.0, "float32") is scaled_bits(table, 2.0, "float32")
