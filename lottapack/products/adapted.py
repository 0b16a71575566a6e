"""The product of a linear layer with an adapter and a generated backbone, as one torch operator.

``y = beta * W x + scaling * B (A x)`` in separate torch operations creates four tensors of the size of ``y``, and the
gradient of beta keeps one of them. This operator creates one and keeps none. The gradient of beta is the sum of the
products of ``W x`` and the gradient of ``y``; equally, it is the sum of the products of ``x``, which is kept for A, and
the gradient times W, which the gradient of ``x`` needs anyway.
"""

from typing import Any

import torch
from torch import Tensor

from lottapack.products.inputs import let_vmap, require_width
from lottapack.products.op import generated_product, refuse_forward_mode
from lottapack.products.product import NARROW, as_inputs, product
from lottapack.products.weight_key import matrix_of


@torch.library.custom_op("lottapack::generated_adapted_product", mutates_args=())
def generated_adapted_product(
    x: Tensor,
    lora_a: Tensor,
    lora_b: Tensor,
    beta: Tensor | None,
    scaling: float,
    table: Tensor | None,
    weight: str,
    transposed: bool,
    max_bytes: int,
) -> Tensor:
    """Compute ``beta * W x + scaling * B (A x)``, shape (..., d_out), for ``x``, shape (..., d_in), all in one dtype.

    ``lora_a``: A, shape (rank, d_in). ``lora_b``: B, shape (d_out, rank). ``beta``: shape (1,), or None for 1. The
    other arguments are those of generated_product(). Differentiable in x, A, B and beta, any number of times.
    """
    refuse_forward_mode()
    matrix = matrix_of(weight, table)
    require_width(x, matrix.shape[not transposed], matrix.source.name)
    rows_of_x = x.reshape(-1, x.shape[-1])
    out = product(rows_of_x, matrix, transposed=transposed, max_bytes=max_bytes or None)
    _add_(out, beta, (rows_of_x @ lora_a.t()) * scaling, lora_b.t())
    return as_inputs(out, x)


@generated_adapted_product.register_fake
def _(x: Tensor, lora_a: Tensor, lora_b: Tensor, *_rest: Any) -> Tensor:  # noqa: ARG001 (torch's names)
    return x.new_empty(*x.shape[:-1], lora_b.shape[0])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001 (torch gives it by name)
    ctx.save_for_backward(*inputs[:4])
    ctx.scaling, *ctx.weight, ctx.transposed, ctx.max_bytes = inputs[4:]


def _gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    # The gradients of complex numbers are products with conjugates; the conjugate of a real tensor is that tensor.
    x, lora_a, lora_b, beta = ctx.saved_tensors
    x, lora_a, lora_b, beta = x.conj(), lora_a.conj(), lora_b.conj(), beta if beta is None else beta.conj()
    of_x, of_a, of_b, of_beta = ctx.needs_input_grad[:4]
    gradients: list[Tensor | None] = [None] * 4
    rows_of_x, gradient = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    narrow = (gradient @ lora_b) * ctx.scaling
    if of_a:
        gradients[1] = narrow.t() @ rows_of_x
    if of_b:
        gradients[2] = gradient.t() @ ((rows_of_x @ lora_a.t()) * ctx.scaling)
    if of_x or of_beta:
        back = generated_product(gradient, *ctx.weight, not ctx.transposed, ctx.max_bytes)
        if of_beta:
            # At least float32: narrow dtypes would round the sum as it grows.
            terms = (t.reshape(-1).float() if t.dtype in NARROW else t.reshape(-1) for t in (back, rows_of_x))
            gradients[3] = torch.dot(*terms).view(1).to(back.dtype)
        if of_x and torch.is_grad_enabled():  # this backward pass is differentiated itself
            back = (back if beta is None else back * beta) + narrow @ lora_a
        elif of_x:
            back = _add_(back, beta, narrow, lora_a)
        gradients[0] = back.view(x.shape) if of_x else None
    return *gradients, None, None, None, None, None


generated_adapted_product.register_autograd(_gradient, setup_context=_keep)
let_vmap(generated_adapted_product, rows=True)


def _add_(backbone: Tensor, beta: Tensor | None, narrow: Tensor, wide: Tensor) -> Tensor:
    """Add ``beta * backbone + narrow @ wide`` in the memory of the backbone's product."""
    if beta is not None:
        backbone.mul_(beta)
    return backbone.addmm_(narrow, wide)
