"""Remember on a model how it was built, for models that do not record it themselves."""

from typing import Any

from torch import nn

from lottapack.arch.noted import noted, notes
from lottapack.errors import ArchitectureError
from lottapack.format.descriptor import Architecture


def remember(model: nn.Module, architecture: Architecture) -> None:
    """Note on a model the architecture that it was built from."""
    notes(model).architecture = architecture


def recall(model: nn.Module) -> Architecture | None:
    """Return the architecture that a model was built from, or None."""
    return noted(model).architecture


def family(model: nn.Module) -> str | None:
    """Return the family of a model that was built by name, or None."""
    found = recall(model)
    return None if found is None else found.family


def describe(model: nn.Module) -> tuple[str, dict[str, Any]]:
    """Return the class name and config. Raises ArchitectureError."""
    found = recall(model)
    if found is None:
        raise ArchitectureError(
            f"this {type(model).__name__} does not record how it was built", hint="Use lottapack.build()."
        )
    return found.class_, found.config
