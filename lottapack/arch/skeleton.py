"""Building a module without its weights."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.overrides import TorchFunctionMode

from lottapack.arch.defaults import own_defaults
from lottapack.errors import ArchitectureError, LimitError, LottapackError
from lottapack.format.descriptor import MAX_PARAMETERS
from lottapack.limits import check_memory

_UNINITIALISED = {
    torch.empty,
    torch.empty_strided,
}
_RANDOM = {
    torch.rand,
    torch.randn,
    torch.randint,
    torch.randperm,
    torch.normal,
}
_NO_DRAW = {
    torch.Tensor.normal_,
    torch.Tensor.uniform_,
    torch.Tensor.bernoulli_,
    torch.Tensor.random_,
    torch.Tensor.exponential_,
    torch.Tensor.cauchy_,
    torch.Tensor.log_normal_,
    torch.Tensor.geometric_,
}


class _NoWeights(TorchFunctionMode):
    """Uninitialised and random tensors go to the meta device; nothing is drawn. Computed tensors stay real.

    ``memory``: uninitialised tensors stay real too, for libraries that fill them afterwards.
    """

    def __init__(self, *, memory: bool = False) -> None:
        super().__init__()
        self.to_meta = _RANDOM if memory else _RANDOM | _UNINITIALISED

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _NO_DRAW:
            return args[0]
        if func in self.to_meta:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def build_skeleton(construct: Callable[[], nn.Module], label: str, *, memory: bool = False) -> nn.Module:
    """Construct on the meta device; if the module has tensors that are in no state_dict, again, so that these are real.

    Only the constructor can compute such tensors (rotary frequencies, position ids). The first, pure meta pass
    shows that the second is worth starting and fits the memory, whatever sizes the configuration names.

    ``memory``: where that is not enough, construct once more with the model's memory, uninitialised. For families whose
    describe() compares what comes out, as it would be wrong if it depended on a weight.

    Raises ArchitectureError, LimitError.
    """
    with named(label), _bounded(label), own_defaults(), torch.device("meta"):
        module = construct()
    computed = [tensor for _, tensor in computed_tensors(module)]
    if not computed:
        return module
    state = module.state_dict().values()
    # Vectors count too: norms are made of ones, which the second pass cannot tell from a computed buffer.
    check_memory(label, sum(t.nbytes for t in [*computed, *(t for t in state if t.dim() < 2)]), None)
    module = _constructed(construct, label, _NoWeights())
    if memory and _missing(module):
        check_memory(label, sum(t.nbytes for t in [*computed, *state]), None)
        module = _constructed(construct, label, _NoWeights(memory=True))
    missing = _missing(module)
    if missing:
        raise ArchitectureError(
            f"{label}: {', '.join(missing[:5])} cannot be computed without weights, and no checkpoint holds it",
            hint="Make it a persistent buffer (register_buffer), so that the pack can store it.",
        )
    _empty(module)
    return module


def _constructed(construct: Callable[[], nn.Module], label: str, mode: _NoWeights) -> nn.Module:
    with named(label), own_defaults(), mode:
        return construct()


def _missing(module: nn.Module) -> list[str]:
    return [name for name, tensor in computed_tensors(module) if tensor.is_meta]


@contextmanager
def _bounded(label: str) -> Iterator[None]:
    """A configuration can name any number of layers; no pack has more than MAX_PARAMETERS."""
    count, thread = 0, threading.get_ident()

    def hook(*_: object) -> None:
        nonlocal count
        if threading.get_ident() == thread:  # the hook is there for all threads
            count += 1
            if count > MAX_PARAMETERS:
                raise LimitError(f"{label}: its configuration asks for more than {MAX_PARAMETERS:,} parameters")

    handle = register_module_parameter_registration_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _empty(module: nn.Module) -> None:
    """Send what the state_dict will bring to the meta device; what is tied stays tied."""
    seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for inner in module.modules():
        stores: tuple[dict[str, Any], ...] = (inner._parameters, inner._buffers)
        for store in stores:
            for name, tensor in store.items():
                if tensor is None or tensor.is_meta or name in inner._non_persistent_buffers_set:
                    continue
                if id(tensor) not in seen:
                    bare = tensor.detach().to("meta")
                    is_parameter = isinstance(tensor, nn.Parameter)
                    seen[id(tensor)] = tensor, nn.Parameter(bare, tensor.requires_grad) if is_parameter else bare
                store[name] = seen[id(tensor)][1]


@contextmanager
def named(label: str) -> Iterator[None]:
    """Whatever a library's constructor raises on a bad configuration becomes one typed error."""
    try:
        yield
    except LottapackError:
        raise
    except Exception as fault:
        raise ArchitectureError(
            f"{label} cannot be built from its configuration: {type(fault).__name__}: {fault}",
            hint="The installed library may be older or newer than the one that described the model.",
        ) from fault


WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Names under which torch.compile, FSDP and activation checkpointing hold the module that they wrap."""


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside those wrappers."""
    while (inner := next((module._modules[name] for name in WRAPPERS if name in module._modules), None)) is not None:
        module = inner
    return module


def computed_buffers(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Non-persistent buffers by name."""
    for prefix, inner in module.named_modules():
        for name in inner._non_persistent_buffers_set:
            buffer = inner._buffers.get(name)
            if buffer is not None:
                yield f"{prefix}.{name}" if prefix else name, buffer


def computed_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Non-persistent buffers, and tensors that are mere attributes, by name: what no checkpoint holds."""
    yield from computed_buffers(module)
    for prefix, inner in module.named_modules():
        for name, value in vars(inner).items():
            if isinstance(value, torch.Tensor):
                yield f"{prefix}.{name}" if prefix else name, value


def require_same_computed(model: nn.Module, rebuilt: nn.Module, label: str) -> None:
    """Raise ArchitectureError unless what no checkpoint holds is bit for bit the same in both.

    A constructor may compute it from numbers that differ each time.
    """
    ours, again = dict(computed_tensors(model)), dict(computed_tensors(rebuilt))
    for name, tensor in ours.items():
        other = again.get(name)
        if other is None or not _same(tensor.detach().cpu(), other.detach().to(tensor.dtype).cpu()):
            raise ArchitectureError(
                f"rebuilding {label} gives another {name}, which no checkpoint holds",
                hint="Make it a persistent buffer (register_buffer), so that the pack can store it.",
            )


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.is_meta:
        return one.shape == other.shape
    flat = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(*flat)


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of the entries of a module's state_dict. Raises ArchitectureError for what has none."""
    state = module.state_dict(keep_vars=True)
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            raise ArchitectureError(f"{name} in the state_dict is a {type(tensor).__name__}, which a pack cannot hold")
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            raise ArchitectureError(f"{name} has no shape yet", hint="Give the layer its sizes when it is built.")
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
