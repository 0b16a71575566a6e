from dataclasses import replace

import numpy as np
import pytest

from lottapack.rng import binary32, builtin, cpu, normal16, scaled_bits
from lottapack.rng.quantile import DEGREE, FALL, FROM, PIECES, ROWS, coefficients, near_coefficients


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """``a * b + c`` of binary32 numbers, rounded once.

    The product is exact in binary64. The sum is rounded to odd there, so that a second rounding cannot err.
    """
    product, other = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = product + other
    low = total - product
    lost = (product - (total - low)) + (other - low)  # what the rounding of the sum left out, exactly
    bits = total.view(np.int64)
    away = (lost > 0) == (total > 0)
    odd = np.where((lost != 0) & (bits & 1 == 0), np.where(away, bits + 1, bits - 1), bits)
    return odd.view(np.float64).astype(np.float32)


def entries() -> np.ndarray:
    """The formula of ``normal16`` in NumPy, for all entries."""
    rows = coefficients().reshape(ROWS, PIECES)
    s = ((np.arange(2**16) - 32767.5) / 65536).astype(np.float32)
    distance = np.abs(s)
    m = fma(distance, np.full_like(s, -FALL), np.full_like(s, FROM))
    piece = ((m * m * m).view(np.uint32) >> 23) & (PIECES - 1)
    t = distance - rows[0, piece]
    line = fma(t, rows[2, piece], rows[1, piece])
    rest = rows[3 + DEGREE, piece]
    for power in reversed(range(DEGREE)):
        rest = fma(t, rest, rows[3 + power, piece])
    return np.copysign(fma(t, rest, line), s)


def test_the_formula_gives_every_entry_of_the_table():
    assert np.array_equal(entries().view(np.uint32), builtin("normal16").values.view(np.uint32))


def test_line_and_distance_are_exact():
    """What the formula's accuracy rests on: only its last operation rounds what matters."""
    rows = coefficients().reshape(ROWS, PIECES).astype(np.float64)
    distance = np.abs(np.arange(2**16) - 32767.5) / 65536
    m = fma(distance.astype(np.float32), np.full(2**16, -FALL, np.float32), np.full(2**16, FROM, np.float32))
    piece = ((m * m * m).view(np.uint32) >> 23) & (PIECES - 1)
    t = distance - rows[0, piece]
    line = t * rows[2, piece] + rows[1, piece]
    assert np.array_equal(t, t.astype(np.float32))
    assert np.array_equal(line, line.astype(np.float32))


def test_coefficients_begin_a_cache_line_and_cannot_be_changed():
    assert coefficients().ctypes.data % 64 == 0
    assert not coefficients().flags.writeable


@pytest.mark.skipif(not normal16.FORMULA, reason="this processor has no vectors for the formula")
def test_this_processor_uses_the_formula():
    assert cpu.formula_holds()


@pytest.mark.skipif(not normal16.FORMULA, reason="this processor has no vectors for the formula")
@pytest.mark.parametrize("place", [0, 3 * PIECES + 14, ROWS * PIECES - 1])
def test_a_wrong_coefficient_is_found_and_the_table_used(place, monkeypatch):
    rows = coefficients().copy()
    rows[place] = np.nextafter(rows[place], np.float32(np.inf))
    if place == ROWS * PIECES - 1:
        rows[place] *= 2  # of the highest power, in which one unit is nothing
    cpu.formula_holds.cache_clear()
    monkeypatch.setattr(cpu, "coefficients", lambda: rows)
    try:
        assert not cpu.formula_holds()
    finally:
        cpu.formula_holds.cache_clear()


def test_without_the_vectors_the_table_gives_the_same_bits(monkeypatch):
    from lottapack.rng import Source, reference

    monkeypatch.setattr(cpu, "formula_holds", lambda: False)
    for dtype, kind in (("float32", np.uint32), ("bfloat16", np.uint16), ("float16", np.uint16)):
        source = Source(7, "a", builtin("normal16"), 0.5, dtype)
        out = np.zeros(5000, kind)
        cpu.fill_bits(out, source, 1001)
        assert np.array_equal(out, reference.elements(source, 1001, 5000))


@pytest.mark.skipif(not normal16.FORMULA, reason="this processor has no vectors for the formula")
def test_a_wrong_coefficient_of_the_shorter_polynomial_is_found(monkeypatch):
    rows = near_coefficients().copy()
    rows[5] *= np.float32(1 + 2**-20)
    cpu.formula_holds.cache_clear()
    monkeypatch.setattr(cpu, "near_coefficients", lambda: rows)
    try:
        assert not cpu.formula_holds()
    finally:
        cpu.formula_holds.cache_clear()


@pytest.mark.skipif(not normal16.FORMULA, reason="this processor has no vectors for the formula")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_entry_comes_out_as_in_the_scaled_table(dtype):
    """Of all entries, so also of those that the shorter polynomial leaves open; ties are among them."""
    generator = np.random.default_rng(3)
    scales = [0.5, 1.0, 2.0**-10, 1.9999998807907104, 1.0000001192092896, *generator.uniform(0.001, 4, 60)]
    out, (words, t, piece) = np.empty(2048, f"u{4 if dtype == 'float32' else 2}"), normal16.space()
    rows, near = coefficients(), near_coefficients()
    for scale in map(np.float32, scales):
        expected = scaled_bits(builtin("normal16"), float(scale), dtype)
        for first in range(0, 2**15, 1024):
            words[:] = (np.arange(1024, dtype=np.uint32) + np.uint32(first)) * np.uint32(0x10001) + np.uint32(2**31)
            normal16.normal16(out, words, t, piece, rows, near, scale, cpu._FORMS[dtype])
            assert np.array_equal(out[:1024], expected[first : first + 1024])
            assert np.array_equal(out[1024:], expected[first + 2**15 : first + 2**15 + 1024])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("scale", [2.0**-12, 0.0519, 3.999999761581421])
def test_uniform16_is_computed_as_its_scaled_table(dtype, scale):
    """All entries; with the small scale those of float16 are subnormal."""
    from lottapack.rng import Source, reference

    source = Source(5, "a", builtin("uniform16"), binary32(scale), dtype)
    out = np.zeros(2**20, f"u{4 if dtype == 'float32' else 2}")
    cpu.fill_bits(out, source)
    expected = reference.elements(source, 0, out.size)
    assert len(np.unique(reference.elements(replace(source, dtype="float32"), 0, out.size))) == 2**16
    assert np.array_equal(out, expected)
