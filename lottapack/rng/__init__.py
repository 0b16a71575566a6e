"""Weights as a pure function of seed, name and index: the same bits on every device (spec: stream, tables).

Importing this package imports neither torch nor numba; they come with the first call that needs them.
"""

from lottapack.rng.arrays import fill_bits, fingerprint_bits, fingerprint_hex, fingerprint_of
from lottapack.rng.fill import fill_, fingerprint
from lottapack.rng.stream import ALGORITHM, Source, stream_of
from lottapack.rng.tables import BUILTIN, Table, binary32, builtin, custom, scale_fault, scaled_bits, table_fault

__all__ = [
    "ALGORITHM",
    "BUILTIN",
    "Source",
    "Table",
    "binary32",
    "builtin",
    "custom",
    "fill_",
    "fill_bits",
    "fingerprint",
    "fingerprint_bits",
    "fingerprint_hex",
    "fingerprint_of",
    "scale_fault",
    "scaled_bits",
    "stream_of",
    "table_fault",
]
