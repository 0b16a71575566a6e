"""Check the inputs of the operators, because torch's own errors name neither lottapack nor the layer."""

from typing import Any

import torch
from torch import Tensor, fx

from lottapack.errors import UnsupportedError


def require_taken(x: Tensor, name: str) -> None:
    """Raise UnsupportedError for an input that the operators do not support. ``name``: that of the weight."""
    if torch.compiler.is_compiling():
        return
    if isinstance(x, fx.Proxy):
        raise _refused(name, "torch.fx cannot trace a product with a generated weight", "Trace with torch.export")
    if x.is_nested or x.layout != torch.strided:
        raise _refused(name, f"cannot multiply an input of layout {x.layout}", "Pass a dense tensor")
    if hasattr(x, "device_mesh"):
        raise _refused(name, "cannot multiply a distributed tensor", "Pass its to_local()")
    level = torch._C._functorch.peek_interpreter_stack()
    if level is not None and level.key() == torch._C._functorch.TransformType.Grad:
        raise _refused(
            name, "torch.func cannot differentiate a product with a generated weight", "Use torch.autograd.grad"
        )


def _refused(name: str, why: str, instead: str) -> UnsupportedError:
    return UnsupportedError(f"{name}: {why}", hint=f'{instead}, or load with backbone="materialised".')


def autocasts(device: str) -> bool:
    """Return whether autocast is on for a type of device; some types do not have it."""
    return device != "meta" and torch.is_autocast_enabled(device)


def let_vmap(operator: Any, *, rows: bool) -> None:
    """Let torch.func.vmap call an operator. ``rows``: whether its first argument may have any leading dimensions."""

    def batched(info: Any, dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
        first, *others = dims
        if rows and first is not None and not any(isinstance(dim, int) for dim in others):
            return operator(arguments[0].movedim(first, 0), *arguments[1:]), 0
        outputs = []
        for number in range(info.batch_size):
            pairs = zip(arguments, dims, strict=True)
            outputs.append(
                operator(*(value.select(dim, number) if isinstance(dim, int) else value for value, dim in pairs))
            )
        return torch.stack(outputs), 0

    operator.register_vmap(batched)
