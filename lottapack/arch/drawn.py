"""Weights as torch draws them on the CPU while a model is built (spec: torch_cpu)."""

from math import prod

import torch
from torch import nn

from lottapack.arch.account import Account
from lottapack.arch.budget import Budget
from lottapack.arch.modes import Drawing, WithoutWeights
from lottapack.arch.skeleton import Construct, constructed, shapes_of
from lottapack.arch.watched import run_watched
from lottapack.errors import UnsupportedError
from lottapack.limits import check_memory

_MOST = 4
"""Bytes of an element of what is drawn."""


def build_drawn(construct: Construct, label: str, seed: int, budget: Budget) -> nn.Module:
    """Construct a module as under a seed, from random numbers of its own.

    Without memory first, to see how much it needs. Raises as build_skeleton() does.
    """
    account = Account(label, budget)

    def draw() -> nn.Module:
        shapes = shapes_of(constructed(construct, label, WithoutWeights(account))).values()
        account.drawn = sum(prod(shape) for shape in shapes)
        most = None if budget.max_bytes is None else max(budget.max_bytes, budget.nbytes)
        check_memory(label, _MOST * account.drawn, most)
        return constructed(construct, label, Drawing(account, seed))

    return run_watched(draw, label, account)


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
