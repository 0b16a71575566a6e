import numpy as np
import pytest

from lottapack.rng import builtin, cpu, kernels
from lottapack.rng.quantile import DEGREE, FALL, FROM, PIECES, ROWS, coefficients


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


@pytest.mark.skipif(not kernels.FORMULA, reason="this processor has no vectors for the formula")
def test_this_processor_uses_the_formula():
    assert cpu.formula_holds()


@pytest.mark.skipif(not kernels.FORMULA, reason="this processor has no vectors for the formula")
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
