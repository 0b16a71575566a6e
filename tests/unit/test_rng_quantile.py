from dataclasses import replace

import numpy as np
import pytest
from extent import crossed

from lottapack.rng import Source, binary32, builtin, cpu, fits, reference, scaled_bits
from lottapack.rng.kernels import declared
from lottapack.rng.kernels.kernel import Kernel
from lottapack.rng.quantile import (
    DEGREE,
    FALL,
    FROM,
    PIECES,
    QUADRATIC,
    ROWS,
    SHORT_DEGREE,
    coefficients,
    short_coefficients,
)

needs_vectors = pytest.mark.skipif(not declared.FORMULA, reason="this processor has no vectors for the formula")


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
    """The formula's accuracy depends on its last rounding only."""
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


@needs_vectors
def test_this_processor_uses_the_formula():
    assert cpu.formula_holds()


@needs_vectors
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
    monkeypatch.setattr(cpu, "formula_holds", lambda: False)
    monkeypatch.setattr(fits, "WORTH", 0)
    for dtype, kind in (("float32", np.uint32), ("bfloat16", np.uint16), ("float16", np.uint16)):
        source = Source(7, "a", builtin("normal16"), 0.5, dtype)
        out = np.zeros(5000, kind)
        cpu.fill_bits(out, source, 1001)
        assert np.array_equal(out, reference.elements(source, 1001, 5000))


@needs_vectors
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_entry_comes_out_as_in_the_scaled_table(dtype):
    generator = np.random.default_rng(3)
    scales = [0.5, 1.0, 2.0**-10, 1.9999998807907104, 1.0000001192092896, *generator.uniform(0.001, 4, 30)]
    fields = np.arange(2**16, dtype=np.uint32).reshape(-1, 2, 1024)  # of a block: the lower, then the upper
    words = (fields[:, 0] | fields[:, 1] << np.uint32(16)).reshape(-1)
    out = np.empty(2**16, f"u{4 if dtype == 'float32' else 2}")
    for scale in map(binary32, scales):
        expected = scaled_bits(builtin("normal16"), float(scale), dtype)
        declared.BLOCKS16(out, words, coefficients(), scale, declared.FORMS[dtype])
        assert np.array_equal(out, expected)


def short_entries(rows: np.ndarray) -> np.ndarray:
    """The bits that the short formula gives with fitted ``rows``, in NumPy, for all entries."""
    rows = rows.reshape(2 + SHORT_DEGREE, PIECES)
    f = (1 + np.arange(2**15) / 65536).astype(np.float32)
    square, linear, constant = (np.full_like(f, value) for value in QUADRATIC)
    piece = (fma(f, fma(f, square, linear), constant).view(np.uint32) >> 22) & (PIECES - 1)
    t = f - rows[0, piece]
    assert np.array_equal(t, f.astype(np.float64) - rows[0, piece])
    total = rows[1 + SHORT_DEGREE, piece]
    for power in reversed(range(SHORT_DEGREE)):
        total = fma(t, total, rows[1 + power, piece])
    size = ((total.view(np.uint32) + 0x8000) >> 16).astype(np.uint16)
    return np.concatenate([size[::-1] | np.uint16(0x8000), size])


# Of these, 0.05 needs no move, 0.0146 some, and for 0.00734 none is found.
@needs_vectors
@pytest.mark.parametrize("scale", [0.05, 1.0, 0.0146, 0.33, 2.0**-100, 0.0073435185477137566])
def test_what_is_fitted_gives_every_entry_in_bfloat16(scale):
    rows = fits.fitted(binary32(scale))
    if scale == 0.0073435185477137566:
        assert rows is None
    else:
        assert rows is not None
        assert np.array_equal(short_entries(rows), scaled_bits(builtin("normal16"), binary32(scale), "bfloat16"))


@needs_vectors
@pytest.mark.parametrize(("start", "count"), [(0, 70_001), (1001, 5000), (2048, 4096), (5, 3)])
@pytest.mark.parametrize("scale", [0.5, 0.02, 0.0073435185477137566])
def test_fitted_or_not_the_bits_are_those_of_the_reference(start, count, scale, monkeypatch):
    source = Source(7, "a", builtin("normal16"), binary32(scale), "bfloat16")
    expected = reference.elements(source, start, count)
    monkeypatch.setattr(fits, "WORTH", 0)
    for _ in range(2):
        out = np.zeros(count, np.uint16)
        cpu.fill_bits(out, source, start)
        assert np.array_equal(out, expected)
        if start == 0:
            assert cpu.fingerprint_of(source, count) == reference.fingerprint(expected, 0)
        monkeypatch.setattr(fits, "WORTH", 2**62)


@needs_vectors
def test_a_scale_is_fitted_once_many_elements_are_asked_for():
    scale = binary32(0.0712)
    assert fits.fitted_when_worth(scale, fits.WORTH - 10) is None
    assert fits.fitted_when_worth(scale, 9) is None
    assert fits.fitted_when_worth(scale, 1) is fits.fitted(scale)


@needs_vectors
def test_a_wrong_coefficient_of_the_short_formula_is_found(monkeypatch):
    rows = short_coefficients().copy()
    rows[1, 20] *= 1 + 2**-9
    monkeypatch.setattr(fits, "short_coefficients", lambda: rows)
    fits.fitted.cache_clear()
    try:
        assert fits.fitted(0.5) is None
    finally:
        fits.fitted.cache_clear()


def test_pairs_are_the_same_words_in_another_order():
    words, pairs = np.zeros((2, 1024), np.uint32)
    for name, out in (("generate_words", words), ("generate_pairs", pairs)):
        Kernel("lottapack.rng.kernels.words", name, "u32[] u64 u64 u64 u64 u64")(out, 2**40 + 3, 1, 2, 3, 4)
    assert np.array_equal(pairs.reshape(-1, 2, 16), words.reshape(-1, 16, 2).swapaxes(1, 2))


SCALES = (2.0**-110 * (1 - 2.0**-24), 2.0**-110, 2.0**-12, 0.0519, 3.999999761581421)


@pytest.mark.parametrize(("scale", "dtype"), crossed(SCALES, ["float32", "bfloat16", "float16"]))
def test_uniform16_is_computed_as_its_scaled_table(scale, dtype):
    """All entries; the small scales give the least products, and subnormal numbers of float16."""
    source = Source(5, "a", builtin("uniform16"), binary32(scale), dtype)
    out = np.zeros(2**20, f"u{4 if dtype == 'float32' else 2}")
    cpu.fill_bits(out, source)
    expected = reference.elements(source, 0, out.size)
    assert len(np.unique(reference.elements(replace(source, dtype="float32"), 0, out.size))) == 2**16
    assert np.array_equal(out, expected)
