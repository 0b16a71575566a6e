"""The weights that torch drew for a pack of ``torch-cpu``: built once, handed out only if all are those recorded."""

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
"""By open pack, so that the model is built once for all its weights, and freed with it."""


def is_constructed(pack: PackFile) -> bool:
    """Whether torch drew the pack's weights."""
    return pack.descriptor.rng.id == rng.TORCH_CPU


def constructed_weights(pack: PackFile) -> Mapping[str, Tensor]:
    """Every generated weight by name, in its recorded dtype, on the CPU.

    Raises IntegrityError with all that differ: nothing is handed out then. ArchitectureError.
    """
    with _LOCK:
        if pack not in _BUILT:
            found = _draw(pack)
            problems = [
                Problem("fingerprint", name, f"drawn with fingerprint {fingerprint}, recorded {recorded}")
                for name, (fingerprint, recorded) in _fingerprints(pack, found).items()
                if fingerprint != recorded
            ]
            if problems:
                raise IntegrityError(str(pack.path), problems, hint=_hint(pack))
            _BUILT[pack] = found
        return _BUILT[pack]


def constructed_fingerprints(pack: PackFile) -> dict[str, tuple[str, str]]:
    """Of each generated weight the fingerprint found here and the recorded one."""
    return _fingerprints(pack, _draw(pack))


def drawn_state(architecture: Architecture, seed: int, budget: Budget | None = None) -> dict[str, Tensor]:
    """The state_dict that torch draws for an architecture. ``budget``: what it may cost, where a table declares it."""
    return dict(arch.draw(architecture, seed, budget or Budget()).state_dict())


def _draw(pack: PackFile) -> dict[str, Tensor]:
    state = drawn_state(pack.descriptor.architecture, pack.descriptor.seed, Budget.of_descriptor(pack.descriptor))
    wanted = {n: e for n, e in pack.descriptor.parameters.items() if isinstance(e, Seeded | Adapted)}
    other = [name for name, entry in wanted.items() if name not in state or tuple(state[name].shape) != entry.shape]
    if other:
        raise ArchitectureError(
            f"{pack.path}: the model that is built here has no such parameter as {other[0]}", hint=_hint(pack)
        )
    return {name: state[name].to(dtypes.torch_dtype(entry.dtype)).contiguous() for name, entry in wanted.items()}


def _fingerprints(pack: PackFile, weights: Mapping[str, Tensor]) -> dict[str, tuple[str, str]]:
    found = {}
    for name, weight in weights.items():
        entry = pack.descriptor.parameters[name]
        assert isinstance(entry, Seeded | Adapted)
        found[name] = rng.fingerprint_hex(rng.fingerprint(weight)), entry.fingerprint
    return found


def _hint(pack: PackFile) -> str:
    """The versions there and here."""
    recorded = pack.descriptor.rng
    here = versions()
    tools = ", ".join(f"{name} {version}" for name, version in pack.descriptor.provenance.items() if name != "torch")
    return (
        f"Packed with torch {recorded.torch} on a CPU with {recorded.capability} ({tools}); here are torch {here[0]} "
        f"and {here[1]}, which draw other numbers, or the pack was changed. Load it where it was packed, and export it."
    )


@torch.no_grad()
def fill_constructed(pack: PackFile, name: str, weight: Tensor) -> Tensor:
    """Copy a generated weight into a tensor of its recorded dtype."""
    return weight.copy_(constructed_weights(pack)[name])
