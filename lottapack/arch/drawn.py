"""Draw weights as torch does on the CPU while a model is built (spec: torch_cpu)."""

from math import prod

import torch
from torch import nn

from lottapack.arch.account import Account
from lottapack.arch.budget import Budget
from lottapack.arch.modes import Drawing
from lottapack.arch.skeleton import Construct, constructed, constructed_for_its_sizes, shapes_of
from lottapack.arch.watched import run_watched
from lottapack.errors import UnsupportedError
from lottapack.limits import check_memory

_MOST = 4
"""The bytes of a drawn element."""


def build_drawn(construct: Construct, label: str, seed: int, budget: Budget) -> nn.Module:
    """Construct a module as under a seed, with a random generator of its own.

    Builds it without memory first, to learn its size. Raises the errors of build_skeleton().
    """
    account = Account(label, budget)

    def draw() -> nn.Module:
        shapes = shapes_of(constructed_for_its_sizes(construct, label, account)).values()
        account.drawn = sum(prod(shape) for shape in shapes)
        most = None if budget.max_bytes is None else max(budget.max_bytes, budget.nbytes)
        check_memory(label, _MOST * account.drawn, most)
        return constructed(construct, label, Drawing(account, seed))

    return run_watched(draw, label, account)


def versions() -> tuple[str, str]:
    """Return what the numbers depend on: torch's version without its local part, and the CPU's vector instructions."""
    return torch.__version__.split("+")[0], torch.backends.cpu.get_cpu_capability()


def require_versions(torch_version: object, capability: object) -> None:
    """Raise UnsupportedError unless this machine draws the same weights, for weights without recorded fingerprints."""
    local_versions = versions()
    if (torch_version, capability) != local_versions:
        raise UnsupportedError(
            f"the backbone was drawn by torch {torch_version} on a CPU with {capability}, but this machine has torch "
            f"{local_versions[0]} and {local_versions[1]}, and it cannot be checked whether that draws the same",
            hint="Do this where the model was built, or load its pack, whose weights can be checked.",
        )
