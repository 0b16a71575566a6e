"""Generate weights as a pure function of seed, name and index, with the same bits on every device (spec: stream).

Importing this package does not import NumPy, numba or torch; the first call that needs one of them imports it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lottapack.rng.scales import BUILTIN, EXTREMES, WIDTHS, binary32, fault_between
from lottapack.rng.stream import ALGORITHM, CONSTRUCTOR, TORCH_CPU, Source, stream_of

if TYPE_CHECKING:
    from lottapack.rng.arrays import fill_bits, fingerprint_bits, fingerprint_hex, fingerprint_of
    from lottapack.rng.fill import fill_, fill_all_, fill_runs_, fingerprint, fingerprints_on
    from lottapack.rng.tables import Table, builtin, custom, scale_fault, scaled_bits, table_fault

_HOME = {
    "fill_bits": "arrays",
    "fingerprint_bits": "arrays",
    "fingerprint_hex": "arrays",
    "fingerprint_of": "arrays",
    "fill_": "fill",
    "fill_all_": "fill",
    "fill_runs_": "fill",
    "fingerprint": "fill",
    "fingerprints_on": "fill",
    "Table": "tables",
    "builtin": "tables",
    "custom": "tables",
    "scale_fault": "tables",
    "scaled_bits": "tables",
    "table_fault": "tables",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lottapack.rng' has no attribute {name!r}")
    return getattr(import_module(f"lottapack.rng.{_HOME[name]}"), name)


__all__ = [
    "ALGORITHM",
    "BUILTIN",
    "CONSTRUCTOR",
    "EXTREMES",
    "TORCH_CPU",
    "WIDTHS",
    "Source",
    "Table",
    "binary32",
    "builtin",
    "custom",
    "fault_between",
    "fill_",
    "fill_all_",
    "fill_bits",
    "fill_runs_",
    "fingerprint",
    "fingerprint_bits",
    "fingerprint_hex",
    "fingerprint_of",
    "fingerprints_on",
    "scale_fault",
    "scaled_bits",
    "stream_of",
    "table_fault",
]
