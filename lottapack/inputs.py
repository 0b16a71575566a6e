"""The inputs of a model, which a caller passes or a file holds, and the tensors of its output."""

import reprlib
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lottapack.errors import CheckpointError
from lottapack.files.paths import path_of
from lottapack.folders import pickles

_SUFFIXES = (".pt", ".pth", ".safetensors", ".npy", ".npz")


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the named arguments of ``forward``. Arrays become tensors.

    Args:
        inputs: a tensor or an array, a sequence of positional arguments, a mapping of named ones, or the path of a file
            with any of these, which read() reads.

    Raises:
        CheckpointError: the file cannot be read, or ``inputs`` is something else.
    """
    if isinstance(inputs, str | PathLike):
        inputs = read(inputs)
    if isinstance(inputs, Mapping):
        return (), {name: _tensor(value) for name, value in inputs.items()}
    if isinstance(inputs, list | tuple):
        return tuple(map(_tensor, inputs)), {}
    if not isinstance(inputs, torch.Tensor | np.ndarray):
        raise CheckpointError(
            f"inputs={reprlib.repr(inputs)} is not the input of a model",
            hint="Pass a tensor or an array, a list or a mapping of them, or the path of a file.",
        )
    return (_tensor(inputs),), {}


def _tensor(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    try:
        return torch.from_numpy(value.copy())  # since torch takes neither reversed nor read-only arrays
    except (TypeError, ValueError) as fault:  # such as text, or another order of bytes
        raise CheckpointError(
            f"an input cannot be a tensor: {fault}",
            hint="Pass arrays of numbers in the order of bytes of this machine.",
        ) from fault


def read(path: str | PathLike[str]) -> Any:
    """Read a tensor, or a list or mapping of tensors. Executes nothing in the file.

    Args:
        path: ``.pt`` or ``.pth`` (torch.save), ``.safetensors`` or ``.npz`` (arguments by name), or ``.npy``.

    Raises:
        CheckpointError: the file cannot be read as tensors.
    """
    where = path_of(path, "inputs")
    if where.suffix not in _SUFFIXES:
        raise CheckpointError(
            f"cannot read tensors from {where}: unknown file type",
            hint=f"Save them as {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}.",
        )
    try:
        return _read(where)
    except CheckpointError:
        raise
    except Exception as fault:
        reason = (fault.strerror if isinstance(fault, OSError) else "") or fault
        raise CheckpointError(
            f"cannot read tensors from {where}: {reason}",
            hint="Save numbers with torch.save, numpy.save, numpy.savez or as safetensors.",
        ) from fault


def outputs(returned: Any, name: str = "output") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors that a model returned, in order, with their names, such as ``output`` or ``output.0``."""
    if isinstance(returned, torch.Tensor):
        yield name, returned
    elif isinstance(returned, Mapping):
        within = "" if name == "output" else f"{name}."
        for key, item in returned.items():
            yield from outputs(item, f"{within}{key}")
    elif isinstance(returned, list | tuple):
        for number, item in enumerate(returned):
            yield from outputs(item, f"{name}.{number}")


def real(tensor: torch.Tensor) -> torch.Tensor:
    """Return complex numbers as pairs of real and imaginary parts, in a last dimension; other tensors as they are."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _read(path: Path) -> Any:
    if path.suffix in (".pt", ".pth"):
        return pickles.read(path)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    arrays = np.load(path, allow_pickle=False)
    if isinstance(arrays, np.ndarray):
        return torch.from_numpy(arrays)
    with arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
