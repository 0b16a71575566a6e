"""The kernels of the stream, to be called, and what their callers and their sources must agree on."""

from typing import Final

from lottapack.rng.kernels.kernel import Kernel
from lottapack.rng.kernels.machine import processor

FORMS: Final = {"float32": 0, "bfloat16": 1, "float16": 2}
"""The forms of an element."""
FITTED: Final = 3
"""That of bfloat16 elements whose formula was fitted to the scale: see ``fits.py``."""

GROUP: Final = 32
"""Counters whose words are made at once, in 64-bit lanes; each processor takes them in parts of its own width."""

FORMULA: Final = processor().has("avx512f")
"""Whether this processor has the vectors of the formula of ``normal16``."""

_TABLES, _NORMAL16, _RUNS = (f"{__package__}.{module}" for module in ("tables", "normal16", "runs"))
_KEY = "u64 u64 u64 u64"  # Source.halves
_TABLE = f"bits[] u64 f32 u64 {_KEY}"  # scaled entries, bits of an index, unit of uniform16, form of an element
_ROWS = f"f32[] f32 u64 {_KEY}"  # coefficients, scale, form

FINGERPRINT = Kernel(_TABLES, "fingerprint", "bits[] u64")
FILL = Kernel(_TABLES, "fill", f"bits[] u64 u64 {_TABLE}")
FINGERPRINT_BLOCKS = Kernel(_TABLES, "fingerprint_blocks", f"bits[] u64 u64 {_TABLE}")
FILL_RUNS = Kernel(_RUNS, "fill_runs", f"bits[] i64[] i64[] bits[] u64 {_TABLE}")

# What is only for processors with the vectors of the formula.
BLOCKS16 = Kernel(_NORMAL16, "blocks16", "bits[] u32[] f32[] f32 u64")
FILL_NORMAL16 = Kernel(_NORMAL16, "fill_normal16", f"bits[] u64 u64 {_ROWS}")
FINGERPRINT_NORMAL16 = Kernel(_NORMAL16, "fingerprint_normal16", f"bits[] u64 u64 {_ROWS}")
FILL_RUNS_NORMAL16 = Kernel(_RUNS, "fill_runs_normal16", f"bits[] i64[] i64[] bits[] u64 {_ROWS}")

CHECKED: Final = (FILL, FINGERPRINT, *((FILL_NORMAL16, BLOCKS16) if FORMULA else ()))
"""Those that the known answers need."""
