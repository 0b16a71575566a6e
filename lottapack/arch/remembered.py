"""Models that cannot say how they were built: what built them notes it on them."""

from typing import Any

from torch import nn

from lottapack.errors import ArchitectureError
from lottapack.format.descriptor import Architecture

_ARCHITECTURE = "_lottapack_architecture"


def remember(model: nn.Module, architecture: Architecture) -> None:
    """Note on a model what it was built from."""
    model.__dict__[_ARCHITECTURE] = architecture


def recall(model: nn.Module) -> Architecture | None:
    """What a model was built from, or None."""
    found: Architecture | None = model.__dict__.get(_ARCHITECTURE)
    return found


def family(model: nn.Module) -> str | None:
    """The family of a model that was built by name, or None."""
    found = recall(model)
    return None if found is None else found.family


def describe(model: nn.Module) -> tuple[str, dict[str, Any]]:
    """Class name and config. Raises ArchitectureError."""
    found = recall(model)
    if found is None:
        raise ArchitectureError(f"it is not known how this {type(model).__name__} was built")
    return found.class_, found.config
