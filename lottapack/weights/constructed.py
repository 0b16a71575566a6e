"""Weights that torch drew for a ``torch-cpu`` pack: built once, and returned only if all match the record."""

import threading
from collections.abc import Mapping
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lottapack import arch, rng
from lottapack.arch.budget import Budget
from lottapack.arch.drawn import versions
from lottapack.errors import ArchitectureError, IntegrityError, Problem
from lottapack.format import dtypes
from lottapack.format.descriptor import Adapted, Architecture, Seeded
from lottapack.format.packfile import PackFile

_LOCK = threading.Lock()
_BUILT: "WeakKeyDictionary[PackFile, dict[str, Tensor]]" = WeakKeyDictionary()
"""The weights of each open pack, so that the model is built once for all of them and freed with the pack."""


def is_constructed(pack: PackFile) -> bool:
    """Return whether torch drew the pack's weights."""
    return pack.descriptor.rng.id == rng.TORCH_CPU


def constructed_weights(pack: PackFile) -> Mapping[str, Tensor]:
    """Return every generated weight by name, in its recorded dtype, on the CPU.

    Raises IntegrityError listing all that differ, without returning any; ArchitectureError.
    """
    with _LOCK:
        if pack not in _BUILT:
            drawn = _draw(pack)
            problems = [
                Problem("fingerprint", name, f"was drawn with the fingerprint {fingerprint}, recorded is {recorded}")
                for name, (fingerprint, recorded) in _fingerprints(pack, drawn).items()
                if fingerprint != recorded
            ]
            if problems:
                raise IntegrityError(str(pack.path), problems, hint=_hint(pack))
            _BUILT[pack] = drawn
        return _BUILT[pack]


def constructed_fingerprints(pack: PackFile) -> dict[str, tuple[str, str]]:
    """Return the computed and the recorded fingerprint of each generated weight."""
    return _fingerprints(pack, _draw(pack))


def drawn_state(architecture: Architecture, seed: int, budget: Budget | None = None) -> dict[str, Tensor]:
    """Return the state_dict that torch draws for an architecture. ``budget``: its limits, if a table declares it."""
    return dict(arch.draw(architecture, seed, budget or Budget()).state_dict())


def _draw(pack: PackFile) -> dict[str, Tensor]:
    state = drawn_state(pack.descriptor.architecture, pack.descriptor.seed, Budget.of_descriptor(pack.descriptor))
    wanted = {n: e for n, e in pack.descriptor.parameters.items() if isinstance(e, Seeded | Adapted)}
    other = [name for name, entry in wanted.items() if name not in state or tuple(state[name].shape) != entry.shape]
    if other:
        raise ArchitectureError(
            f"{pack.path}: the model built here does not have the parameter {other[0]}", hint=_hint(pack)
        )
    return {name: state[name].to(dtypes.torch_dtype(entry.dtype)).contiguous() for name, entry in wanted.items()}


def _fingerprints(pack: PackFile, weights: Mapping[str, Tensor]) -> dict[str, tuple[str, str]]:
    fingerprints = {}
    for name, weight in weights.items():
        entry = pack.descriptor.parameters[name]
        assert isinstance(entry, Seeded | Adapted)
        fingerprints[name] = rng.fingerprint_hex(rng.fingerprint(weight)), entry.fingerprint
    return fingerprints


def _hint(pack: PackFile) -> str:
    """Return a hint with the recorded and the present versions."""
    recorded = pack.descriptor.rng
    local_versions = versions()
    tools = ", ".join(f"{name} {version}" for name, version in pack.descriptor.provenance.items() if name != "torch")
    return (
        f"It was packed with torch {recorded.torch} on a CPU with {recorded.capability} ({tools}). This machine "
        f"has torch "
        f"{local_versions[0]} and {local_versions[1]}, which draw other numbers, or the pack was changed. Load "
        f"the pack "
        "where it was packed, and export it there."
    )


@torch.no_grad()
def fill_constructed(pack: PackFile, name: str, weight: Tensor) -> Tensor:
    """Copy a generated weight into a tensor of its recorded dtype."""
    return weight.copy_(constructed_weights(pack)[name])
