"""Read files of torch.save by torch's restricted unpickler, which makes tensors and plain data and runs no code.

NumPy's scalars and dtypes and argparse's namespaces are read too, because trainers store them beside the state_dict.
Errors name anything else.
"""

import argparse
import pickle
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lottapack.errors import CheckpointError

_UNSAFE_DTYPES = ("ObjectDType", "StringDType", "VoidDType")
_DTYPES = [
    kind
    for name, kind in sorted(vars(np.dtypes).items())
    if isinstance(kind, type) and issubclass(kind, np.dtype) and name not in _UNSAFE_DTYPES
]
_SCALAR = np.float64(0).__reduce__()[0]
_SAFE: dict[str, Any] = {
    "argparse.Namespace": argparse.Namespace,  # has no method that runs when it is unpickled
    "numpy.dtype": np.dtype,
    **{f"{kind.__module__}.{kind.__qualname__}": kind for kind in _DTYPES},
    **{f"numpy.{core}.multiarray.scalar": (_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("_core", "core")},
}
"""The allowed classes, by their names in a pickle."""

_LOCK = threading.Lock()
"""torch's list of safe classes is global, so two readers would remove each other's entries from it."""

_REFUSED = re.compile(r"GLOBAL ([\w.]+)")


def read(path: Path) -> Any:
    """Return what a file of torch.save holds, with tensors on the CPU. Raises CheckpointError naming refused classes.

    Other exceptions of torch and pickle pass through.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        refused = _REFUSED.search(str(fault))
        if refused is None or refused[1] not in _SAFE:
            raise _error(path, fault) from fault
    try:
        with _LOCK:
            mine = [safe for safe in _SAFE.values() if safe not in torch.serialization.get_safe_globals()]
            with torch.serialization.safe_globals(mine):
                return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        raise _error(path, fault) from fault


def _error(path: Path, fault: pickle.UnpicklingError) -> Exception:
    """Return an error that names the refused classes, or the original one if it is another."""
    names = _classes(path, fault)
    if not names:
        return fault
    return CheckpointError(
        f"cannot read {path} as tensors: it contains {_listed(names)}, which torch refuses to unpickle safely",
        hint="If you trust the file, save only its weights again: content = torch.load(path, weights_only=False); "
        "torch.save(content['state_dict'], 'state.pt'), where 'state_dict' is the key of the weights (for a whole "
        "model: content.state_dict()). That unpickling runs code that the file names.",
    )


def _classes(path: Path, fault: Exception) -> list[str]:
    """Return the refused classes: all if torch can list them, else the first."""
    refused = _REFUSED.search(str(fault))
    first = [refused[1]] if refused else []
    try:
        listed = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (RuntimeError, ValueError, OSError, EOFError, KeyError, pickle.UnpicklingError):
        return first
    return [*first, *sorted(name for name in listed if name not in {*first, *_SAFE})] if first else []


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(f"`{name}`" for name in names[:5]) + more
