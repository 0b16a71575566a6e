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
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: the input must be a Tensor, but is a {type(x).__name__}")
    if x.is_nested or x.layout != torch.strided:
        raise _refused(name, f"cannot multiply an input of layout {x.layout}", "Pass a dense tensor")
    if hasattr(x, "device_mesh"):
        raise _refused(name, "cannot multiply a distributed tensor", "Pass its to_local()")
    level = torch._C._functorch.peek_interpreter_stack()
    if level is not None and level.key() == torch._C._functorch.TransformType.Grad:
        raise _refused(
            name, "torch.func cannot differentiate a product with a generated weight", "Use torch.autograd.grad"
        )


def require_operand(x: Tensor, name: str, dtype: torch.dtype) -> None:
    """Raise for a product's input that the layer would not multiply if its weight were in memory.

    ``dtype``: the weight's. A weight is converted to a narrower floating input, as under FSDP2's mixed precision.
    """
    require_taken(x, name)
    if x.dtype == dtype or (x.is_floating_point() and x.dtype.itemsize < dtype.itemsize):
        return
    if not x.is_floating_point() or x.dtype == torch.float64 or not autocasts(x.device.type):
        raise RuntimeError(f"{name}: input and weight must have the same dtype, but are {x.dtype} and {dtype}")


def require_width(x: Tensor, width: int, name: str) -> None:
    """Raise RuntimeError, as torch does, for an input whose last dimension does not fit a matrix."""
    if x.dim() == 0 or x.shape[-1] != width:
        raise RuntimeError(f"{name}: shapes cannot be multiplied: the input is {tuple(x.shape)}, not (..., {width})")


def require_channels(x: Tensor, channels: int, name: str) -> None:
    """Raise RuntimeError, as torch does, for a batch whose number of channels does not fit a kernel."""
    if x.shape[1] != channels:
        raise RuntimeError(f"{name}: expected an input of {channels} channels, but got {x.shape[1]}: {tuple(x.shape)}")


def require_indices(indices: Tensor, name: str) -> None:
    """Raise RuntimeError, as torch does, for indices of an embedding that are not int64 or int32."""
    if indices.dtype not in (torch.int64, torch.int32):
        raise RuntimeError(f"{name}: indices must be torch.int64 or torch.int32, but are {indices.dtype}")


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
