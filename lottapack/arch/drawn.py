"""Weights as torch draws them on the CPU while a model is built (spec: torch_cpu)."""

import threading
from collections.abc import Callable

import torch
from torch import nn

from lottapack.arch.defaults import own_defaults
from lottapack.arch.skeleton import named
from lottapack.errors import UnsupportedError

_DRAWING = threading.Lock()
"""The default generator is one for all threads."""


def build_drawn(construct: Callable[[], nn.Module], label: str, seed: int) -> nn.Module:
    """Construct a module under a seed, and leave the random state as it was."""
    # torch.manual_seed() would seed the accelerators too, whose states are no business of ours.
    generator = torch.default_generator
    with _DRAWING, named(label), own_defaults():
        state = generator.get_state()
        try:
            generator.manual_seed(seed)
            return construct()
        finally:
            generator.set_state(state)


def versions() -> tuple[str, str]:
    """What the numbers depend on: torch's version without its local part, and the processor's vector instructions."""
    return torch.__version__.split("+")[0], torch.backends.cpu.get_cpu_capability()


def require_versions(torch_version: object, capability: object) -> None:
    """Raise UnsupportedError unless weights of which nothing else is known can be drawn again here."""
    here = versions()
    if (torch_version, capability) != here:
        raise UnsupportedError(
            f"the backbone was drawn by torch {torch_version} on a CPU with {capability}, and here are torch {here[0]} "
            f"and {here[1]}: whether they draw the same cannot be checked",
            hint="Do this where the model was built, or load its pack, which is checked.",
        )
