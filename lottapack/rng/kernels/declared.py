"""The declared kernels of the stream, and the constants that callers and kernel sources share."""

from typing import Any, Final

from lottapack.rng.kernels.kernel import Kernel, Memory
from lottapack.rng.kernels.machine import processor
from lottapack.rng.quantile import PIECES, ROWS, SHORT_DEGREE
from lottapack.rng.scales import WIDTHS
from lottapack.rng.stream import WORDS

FORMS: Final = {"float32": 0, "bfloat16": 1, "float16": 2}
"""The numbers of the dtypes of elements."""
FITTED: Final = 3
"""The number of bfloat16 elements whose formula was fitted to the scale; see ``fits.py``."""

GROUP: Final = 32
"""The counters whose words are made together, in 64-bit lanes. Each processor splits them to its own vector width."""

FORMULA: Final = processor().has("avx512f")
"""Whether this processor has the vectors for the formula of ``normal16``."""

_TABLES, _NORMAL16, _RUNS = (f"{__package__}.{module}" for module in ("tables", "normal16", "runs"))
_KEY = "u64 u64 u64 u64"  # Source.halves
_TABLE = f"bits[] u64 f32 u64 {_KEY}"  # scaled entries, bits of an index, unit of uniform16, form
_ROWS = f"f32[] f32 u64 {_KEY}"  # coefficients, scale, form


def _table_fits(out: Memory, table: Memory, bits: int, form: int) -> bool:
    return bits in WIDTHS and table.size == 1 << bits and _form_fits(out, form) and form != FITTED


def _rows_fit(out: Memory, rows: Memory, form: int) -> bool:
    return rows.size == PIECES * (2 + SHORT_DEGREE if form == FITTED else ROWS) and _form_fits(out, form)


def _form_fits(out: Memory, form: int) -> bool:
    return out.dtype.itemsize == {FORMS["float32"]: 4}.get(form, 2) and 0 <= form <= FITTED


def _runs_fit(out: Memory, starts: Memory, lengths: Memory, part: Memory, served: int, due: int) -> bool:
    numbers: Any = lengths.owner
    apart = starts.size == lengths.size == numbers.size and bool((numbers >= 0).all())
    return apart and out.size == numbers.sum() and part.size in (0, served) and served == due


FINGERPRINT = Kernel(_TABLES, "fingerprint", "bits[] u64")
FILL = Kernel(
    _TABLES,
    "fill",
    f"=bits[] u64 u64 {_TABLE}",
    lambda out, _block, _skip, table, bits, _unit, form, *_: _table_fits(out, table, bits, form),
)
FINGERPRINT_BLOCKS = Kernel(
    _TABLES,
    "fingerprint_blocks",
    f"=bits[] u64 u64 {_TABLE}",
    lambda part, _count, _block, table, bits, _unit, form, *_: (
        _table_fits(part, table, bits, form) and part.size == WORDS * (32 // bits)
    ),
)
FILL_RUNS = Kernel(
    _RUNS,
    "fill_runs",
    f"=bits[] i64[] i64[] =bits[] u64 {_TABLE}",
    lambda out, starts, lengths, part, served, table, bits, _unit, form, *_: (
        _table_fits(out, table, bits, form) and _runs_fit(out, starts, lengths, part, served, WORDS * (32 // bits))
    ),
)

# These need a processor with the vectors for the formula.
BLOCKS16 = Kernel(
    _NORMAL16,
    "blocks16",
    "=bits[] u32[] f32[] f32 u64",
    lambda out, words, rows, _scale, form: (
        _rows_fit(out, rows, form) and out.size == 2 * words.size and words.size % WORDS == 0
    ),
)
FILL_NORMAL16 = Kernel(
    _NORMAL16,
    "fill_normal16",
    f"=bits[] u64 u64 {_ROWS}",
    lambda out, _block, _skip, rows, _scale, form, *_: _rows_fit(out, rows, form),
)
FINGERPRINT_NORMAL16 = Kernel(
    _NORMAL16,
    "fingerprint_normal16",
    f"=bits[] u64 u64 {_ROWS}",
    lambda part, _count, _block, rows, _scale, form, *_: _rows_fit(part, rows, form) and part.size == 2 * WORDS,
)
FILL_RUNS_NORMAL16 = Kernel(
    _RUNS,
    "fill_runs_normal16",
    f"=bits[] i64[] i64[] =bits[] u64 {_ROWS}",
    lambda out, starts, lengths, part, served, rows, _scale, form, *_: (
        _rows_fit(out, rows, form) and _runs_fit(out, starts, lengths, part, served, 2 * WORDS)
    ),
)

CHECKED: Final = (FILL, FINGERPRINT, *((FILL_NORMAL16, BLOCKS16) if FORMULA else ()))
"""The kernels of the known-answer test."""

TABLE_KERNELS: Final = FINGERPRINT, FILL, FINGERPRINT_BLOCKS, FILL_RUNS
FORMULA_KERNELS: Final = BLOCKS16, FILL_NORMAL16, FINGERPRINT_NORMAL16, FILL_RUNS_NORMAL16
"""The kernels that need FORMULA."""
