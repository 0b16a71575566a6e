"""Building a module without its weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from lottapack.errors import ArchitectureError, LottapackError

_TO_META = {
    torch.empty,
    torch.empty_strided,
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
    """Uninitialised and random tensors go to the meta device; nothing is drawn. Computed tensors stay real."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _NO_DRAW:
            return args[0]
        if func in _TO_META:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def build_skeleton(construct: Callable[[], nn.Module], label: str) -> nn.Module:
    """Construct on the meta device; if the module has non-persistent buffers, construct again so that these are real.

    Such buffers (rotary frequencies, position ids) are in no state_dict: only the constructor can compute them. The
    first, pure meta pass shows that the second is worth starting, whatever sizes the configuration names.
    """
    with _named(label), torch.device("meta"):
        module = construct()
    if any(True for _ in computed_buffers(module)):
        with _named(label), _NoWeights():
            module = construct()
        missing = [name for name, buffer in computed_buffers(module) if buffer.is_meta]
        if missing:
            raise ArchitectureError(f"{label}: the buffers {', '.join(missing[:5])} cannot be computed without weights")
    return module


@contextmanager
def _named(label: str) -> Iterator[None]:
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


def computed_buffers(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Non-persistent buffers by name."""
    for prefix, inner in module.named_modules():
        for name in inner._non_persistent_buffers_set:
            buffer = inner._buffers.get(name)
            if buffer is not None:
                yield f"{prefix}.{name}" if prefix else name, buffer


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of the entries of a module's state_dict."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict(keep_vars=True).items()}
