"""Gradient checkpointing: a forward pass that is run again in backward must find the backbone of the first one.

Torch notices that a weight was written to if it saved it; a checkpoint saves none. But every node of a graph has a
number, which grows with each node that a thread makes. So a layer of a model with several scaffolds notes from which
number on it had which seed, at each switch and in each forward pass that finds another; and in a pass within a backward
pass it looks at the node that asks for it: which seed was it made with? Each thread counts for itself, and a node does
not say which thread made it: all that the layer ran in have to agree.
"""

import itertools
import threading
from collections import deque
from typing import Any, Final, NamedTuple

import torch
from torch import nn

from lottapack.errors import ScaffoldError
from lottapack.nn.layer_weight import SOURCES


class OtherBackboneError(ScaffoldError, RuntimeError):
    """As torch's own error, a RuntimeError too: that is what a backward pass over weights that are gone raises."""


class _Change(NamedTuple):
    """From which node of a thread on a layer had a seed."""

    thread: int
    number: int
    seed: int


_CHANGES: Final = "_lottapack_changes"
"""The attribute of a layer that holds them, the last one last."""

_KEPT: Final = 4096
"""Changes that are remembered; a graph that is older counts as one of another backbone."""

_threads = itertools.count()
_here = threading.local()


def watch(module: nn.Module) -> None:
    """Let a layer note its seeds, and refuse to be recomputed on another."""
    if _CHANGES not in module.__dict__:
        module.__dict__[_CHANGES] = deque(maxlen=_KEPT)
        module.register_forward_pre_hook(refuse_other_backbone)


def note(module: nn.Module) -> None:
    """Note the seed that a layer has, if it is watched."""
    changes = module.__dict__.get(_CHANGES)
    if changes is None:
        return
    seed, thread = _seed(module), _thread()
    last = next((change for change in reversed(changes) if change.thread == thread), None)
    if last is None or last.seed != seed:
        changes.append(_Change(thread, 0 if last is None else _next_number(), seed))


def _seed(module: nn.Module) -> int:
    return int(next(iter(module.__dict__[SOURCES].values())).seed)


def _thread() -> int:
    """A number that no other thread has or will have, unlike an operating system's."""
    if not hasattr(_here, "number"):
        _here.number = next(_threads)
    return int(_here.number)


def _next_number() -> int:
    """That of the node that this thread makes next."""
    with torch.inference_mode(False), torch.enable_grad():
        one = torch.zeros(1, dtype=torch.float32, device="cpu", requires_grad=True)
        made: Any = one.view(1).grad_fn
    return int(made._sequence_nr())


def refuse_other_backbone(module: nn.Module, _: Any = None) -> None:
    """Raise OtherBackboneError in a pass within a backward pass if the layer was switched since the graph was made."""
    if torch.compiler.is_compiling() or _CHANGES not in module.__dict__:
        return
    if torch._C._current_graph_task_id() == -1:
        note(module)
        return
    node: Any = torch._C._current_autograd_node()
    if node is None:
        return
    number, changes = node._sequence_nr(), tuple(module.__dict__[_CHANGES])
    then: dict[int, int | None] = {}
    for change in changes:
        if change.number <= number:
            then[change.thread] = change.seed
        else:
            then.setdefault(change.thread, None)  # what was before is no longer known
    if set(then.values()) - {_seed(module)}:
        name = next(iter(module.__dict__[SOURCES].values())).name
        threads = "" if len(then) == 1 else ", or may have been: it ran in several threads"
        raise OtherBackboneError(
            f"{name}: gradient checkpointing runs the forward pass again, and the model was switched to another "
            f"scaffold in between{threads}",
            hint="Call backward() before switch(), or switch back first; do both in one thread.",
        )
