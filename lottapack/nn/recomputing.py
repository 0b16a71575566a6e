"""Gradient checkpointing: a forward pass that runs again in backward must use the backbone of the first pass.

torch detects that a weight was overwritten if it saved it, but a checkpoint does not save weights. However, every node
of a graph has a number, which grows with each node that its thread creates. So a layer of a model with several
scaffolds records from which number on it had which seed: at each switch, and in each forward pass with a new seed.
In a forward pass inside a backward pass, it looks up the seed with which the requesting node was created. Each
thread counts separately, and a node does not record its thread, so all threads in which the layer ran must agree.
"""

import itertools
import threading
from collections import deque
from typing import Any, Final, NamedTuple

import torch
from torch import nn

from lottapack.arch.noted import noted, notes
from lottapack.errors import ScaffoldError


class OtherBackboneError(ScaffoldError, RuntimeError):
    """Like torch's own error a RuntimeError, which a backward pass over changed weights raises."""


class Change(NamedTuple):
    """The node of a thread from which on a layer had a seed."""

    thread: int
    number: int
    seed: int


_KEPT: Final = 4096
"""How many changes are remembered; a graph older than those counts as one of another backbone."""

_threads = itertools.count()
_here = threading.local()


def watch(module: nn.Module) -> None:
    """Let a layer record its seeds, and refuse recomputing on another one."""
    if noted(module).changes is None:
        notes(module).changes = deque(maxlen=_KEPT)
        module.register_forward_pre_hook(refuse_other_backbone)


def note(module: nn.Module) -> None:
    """Record a layer's present seed, if it is watched."""
    changes = noted(module).changes
    if changes is None:
        return
    seed, thread = _seed(module), _thread()
    last = next((change for change in reversed(changes) if change.thread == thread), None)
    if last is None or last.seed != seed:
        changes.append(Change(thread, 0 if last is None else _next_number(), seed))


def _seed(module: nn.Module) -> int:
    return int(next(iter(noted(module).sources.values())).seed)


def _thread() -> int:
    """Return a number that no other thread has or will have, unlike the operating system's."""
    if not hasattr(_here, "number"):
        _here.number = next(_threads)
    return int(_here.number)


def _next_number() -> int:
    """Return the number of the node that this thread creates next."""
    with torch.inference_mode(False), torch.enable_grad():
        tensor = torch.zeros(1, dtype=torch.float32, device="cpu", requires_grad=True)
        made: Any = tensor.view(1).grad_fn
    return int(made._sequence_nr())


def refuse_other_backbone(module: nn.Module, _: Any = None) -> None:
    """Raise OtherBackboneError in a recomputed forward pass if the layer was switched since the graph was created."""
    if torch.compiler.is_compiling() or (changes := noted(module).changes) is None:
        return
    if torch._C._current_graph_task_id() == -1:
        note(module)
        return
    node: Any = torch._C._current_autograd_node()
    if node is None:
        return
    number = node._sequence_nr()
    then: dict[int, int | None] = {}
    for change in tuple(changes):
        if change.number <= number:
            then[change.thread] = change.seed
        else:
            then.setdefault(change.thread, None)  # earlier changes are no longer known
    if set(then.values()) - {_seed(module)}:
        name = next(iter(noted(module).sources.values())).name
        threads = "" if len(then) == 1 else ", or may have been, because it ran in several threads"
        raise OtherBackboneError(
            f"{name}: gradient checkpointing runs the forward pass again, but the model was switched to another "
            f"scaffold in between{threads}",
            hint="Call backward() before switch(), or switch back first, all in one thread.",
        )
