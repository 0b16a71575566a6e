"""Gradient checkpointing: a forward pass that is run again in backward must find the backbone of the first one.

Torch notices that a weight was written to if it saved it; a checkpoint saves none. But every node of a graph has a
number, which grows with each node that a thread makes. So a layer notes at each switch which number comes next, and in
a pass within a backward pass looks at the node that asks for it: was it made before a switch to another seed?
"""

from collections import deque
from typing import Any, Final

import torch
from torch import nn

from lottapack.errors import ScaffoldError
from lottapack.nn.layer_weight import SOURCES


class OtherBackboneError(ScaffoldError, RuntimeError):
    """As torch's own error, a RuntimeError too: that is what a backward pass over weights that are gone raises."""


_SWITCHES: Final = "_lottapack_switches"
"""The attribute of a layer that holds its switches: the next node's number, and the seed before."""

_KEPT: Final = 4096
"""Switches that are remembered; a graph that is older counts as one of another backbone."""


def watch(module: nn.Module, seed: int, number: int) -> None:
    """Note that a layer leaves a seed at a number; from the first time on, it refuses to be recomputed on another."""
    if _SWITCHES not in module.__dict__:
        module.__dict__[_SWITCHES] = deque(maxlen=_KEPT)
        module.register_forward_pre_hook(refuse_other_backbone)
    module.__dict__[_SWITCHES].append((number, seed))


def next_number() -> int:
    """That of the node that this thread makes next."""
    with torch.inference_mode(False), torch.enable_grad():
        one = torch.zeros(1, dtype=torch.float32, device="cpu", requires_grad=True)
        made: Any = one.view(1).grad_fn
    return int(made._sequence_nr())


def refuse_other_backbone(module: nn.Module, _: Any = None) -> None:
    """Raise OtherBackboneError in a pass within a backward pass if the layer was switched since the graph was made."""
    if torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1 or _SWITCHES not in module.__dict__:
        return
    node: Any = torch._C._current_autograd_node()
    now = next(iter(module.__dict__[SOURCES].values()))
    if node is None:
        return
    number, switches = node._sequence_nr(), module.__dict__[_SWITCHES]
    then = next((seed for first, seed in switches if number < first), now.seed)
    forgotten = len(switches) == _KEPT and number < switches[0][0]
    if then != now.seed or forgotten:
        raise OtherBackboneError(
            f"{now.name}: gradient checkpointing runs the forward pass again, and the model was switched to another "
            "scaffold in between",
            hint="Call backward() before switch(), or switch back first.",
        )
