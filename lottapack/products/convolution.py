"""Convolutions with a generated kernel, some output channels at a time, as torch operators."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Sequence  # noqa: UP035 - operators before torch 2.7 need this one

import torch
from torch import Tensor

from lottapack.products.inputs import let_vmap, require_channels
from lottapack.products.op import refuse_forward_mode
from lottapack.products.product import NARROW, Matrix
from lottapack.products.weight_key import matrix_of, parsed


@torch.library.custom_op("lottapack::generated_convolution", mutates_args=())
def generated_convolution(
    x: Tensor,
    table: Tensor | None,
    weight: str,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    max_bytes: int,
) -> Tensor:
    """Convolve ``x``, shape (batch, C_in, ...), with a kernel of shape (C_out, C_in / groups, ...).

    ``table`` and ``weight`` are those of generated_product(). Differentiable in ``x``, once.
    """
    refuse_forward_mode()
    matrix, shape = matrix_of(weight, table), parsed(weight).shape
    require_channels(x, shape[1] * groups, matrix.source.name)  # a part would take the first of too many
    out: Tensor | None = None
    for part in _parts(matrix, shape, groups, max_bytes, x):
        result: Tensor = torch.ops.aten.convolution(
            x[:, part.inputs], part.kernel, None, stride, padding, dilation, False, [0] * len(stride), part.groups
        )
        if part.kernel.shape[0] == shape[0]:
            return result
        if out is None:
            out = _empty_as(result, shape[0])
        out[:, part.outputs] = result
    assert out is not None  # a convolution has at least one output channel
    return out


@generated_convolution.register_fake
def _(
    x: Tensor,
    table: Tensor | None,  # noqa: ARG001 (torch's names, here and below)
    weight: str,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    max_bytes: int,  # noqa: ARG001
) -> Tensor:
    kernel = x.new_empty(parsed(weight).shape)
    fake: Tensor = torch.ops.aten.convolution(
        x, kernel, None, stride, padding, dilation, False, [0] * (x.dim() - 2), groups
    )
    return fake


@torch.library.custom_op("lottapack::generated_convolution_gradient", mutates_args=())
def generated_convolution_gradient(
    gradient: Tensor,
    x: Sequence[int],
    table: Tensor | None,
    weight: str,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    max_bytes: int,
) -> Tensor:
    """Compute the gradient of the input of generated_convolution(), of shape ``x``, from that of its output."""
    matrix, shape = matrix_of(weight, table), parsed(weight).shape
    # The parts of one group add to the same inputs.
    wide = gradient.dtype in NARROW and matrix.height(gradient, max_bytes or None) < shape[0] // groups
    wide_gradient = gradient.float() if wide else gradient
    out = wide_gradient.new_zeros(x)
    for part in _parts(matrix, shape, groups, max_bytes, gradient, wide=wide):
        part_gradient, _, _ = torch.ops.aten.convolution_backward(
            wide_gradient[:, part.outputs],
            out[:, part.inputs],
            part.kernel,
            None,
            stride,
            padding,
            dilation,
            False,
            [0] * len(stride),
            part.groups,
            [True, False, False],
        )
        out[:, part.inputs] += part_gradient
    return out.to(gradient.dtype)


@generated_convolution_gradient.register_fake
def _(gradient: Tensor, x: Sequence[int], *_rest: object) -> Tensor:
    return gradient.new_empty(x)


def _keep(ctx: object, inputs: tuple[object, ...], output: Tensor) -> None:  # noqa: ARG001 (torch gives it by name)
    ctx.shape, ctx.rest = inputs[0].shape, inputs[1:]  # type: ignore[attr-defined]


def _gradient(ctx: object, gradient: Tensor) -> tuple[Tensor | None, ...]:
    result = generated_convolution_gradient(gradient, ctx.shape, *ctx.rest)  # type: ignore[attr-defined]
    return result, *[None] * 7


generated_convolution.register_autograd(_gradient, setup_context=_keep)
let_vmap(generated_convolution, rows=False)


def _empty_as(part: Tensor, channels: int) -> Tensor:
    """Return memory for all channels of a result in the memory format of a part of it, which compilers count on."""
    sizes = part.shape[0], channels, *part.shape[2:]
    if part.dim() == 4 and part.stride(1) == 1 and part.shape[2:].numel() > 1:
        return torch.empty(sizes, dtype=part.dtype, device=part.device, memory_format=torch.channels_last)
    return part.new_empty(sizes)


@dataclass(frozen=True)
class _Part:
    """Some output channels: their indices, their input channels, their kernel and their number of groups."""

    outputs: slice
    inputs: slice
    kernel: Tensor
    groups: int


def _parts(
    matrix: Matrix, shape: Sequence[int], groups: int, max_bytes: int, like: Tensor, *, wide: bool = False
) -> Iterator[_Part]:
    """Yield parts that hold whole groups, or lie in one; each kernel is valid until the next part is requested."""
    each, inputs = shape[0] // groups, shape[1]
    height = matrix.height(like, max_bytes or None, wide=wide)
    step = height // each * each or height
    ranges = []
    for first in range(0, shape[0], max(step, each)):  # one group, or as many as fit
        last = min(first + max(step, each), shape[0])
        ranges += [(begin, min(begin + step, last)) for begin in range(first, last, step)]
    for (begin, end), kernel in zip(ranges, matrix.tiles(ranges, like, wide=wide), strict=True):
        first_group, behind = begin // each, (end + each - 1) // each
        kernel = kernel.view(end - begin, *shape[1:])
        yield _Part(slice(begin, end), slice(first_group * inputs, behind * inputs), kernel, behind - first_group)
