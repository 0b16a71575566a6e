"""Files of torch.save, read by torch's own unpickler that makes tensors and plain data, and runs no code.

NumPy's scalars and dtypes are read too: trainers note them beside the state_dict. What else a file asks for is named.
"""

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
_NUMPY: dict[str, Any] = {
    "numpy.dtype": np.dtype,
    **{f"{kind.__module__}.{kind.__qualname__}": kind for kind in _DTYPES},
    **{f"numpy.{core}.multiarray.scalar": (_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("_core", "core")},
}
"""By the name that a pickle calls it."""

_LOCK = threading.Lock()
"""torch's list of what is safe is one for the process: two readers would take each other's entries off it."""

_REFUSED = re.compile(r"GLOBAL ([\w.]+)")


def read(path: Path) -> Any:
    """What a file of torch.save holds, tensors on the CPU. Raises CheckpointError naming the classes that it asks for.

    Other exceptions of torch and pickle pass through.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        refused = _REFUSED.search(str(fault))
        if refused is None or refused[1] not in _NUMPY:
            raise _error(path, fault) from fault
    try:
        with _LOCK:
            mine = [one for one in _NUMPY.values() if one not in torch.serialization.get_safe_globals()]
            with torch.serialization.safe_globals(mine):
                return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        raise _error(path, fault) from fault


def _error(path: Path, fault: pickle.UnpicklingError) -> Exception:
    """The classes by name, where that is what is wrong."""
    names = _classes(path, fault)
    if not names:
        return fault
    return CheckpointError(
        f"{path} cannot be read as tensors: it contains {_listed(names)}, which torch refuses to unpickle safely",
        hint="If you trust the file, save again what is packed: content = torch.load(path, weights_only=False); "
        "torch.save(content['state_dict'], 'state.pt'), where 'state_dict' is the key of the weights (for a whole "
        "model: content.state_dict()). That unpickling runs code that the file names.",
    )


def _classes(path: Path, fault: Exception) -> list[str]:
    """The classes that are refused: all, where torch can list them, else the first."""
    refused = _REFUSED.search(str(fault))
    first = [refused[1]] if refused else []
    try:
        listed = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (RuntimeError, ValueError, OSError, EOFError, KeyError, pickle.UnpicklingError):
        return first
    return [*first, *sorted(name for name in listed if name not in {*first, *_NUMPY})] if first else []


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(f"`{name}`" for name in names[:5]) + more
