"""The product as one torch operator, so that compilers see a single call, and autograd generates the weight again."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from lottapack.errors import UnsupportedError
from lottapack.products.inputs import let_vmap
from lottapack.products.product import product
from lottapack.products.weight_key import matrix_of, parsed


@torch.library.custom_op("lottapack::generated_product", mutates_args=())
def generated_product(x: Tensor, table: Tensor | None, weight: str, transposed: bool, max_bytes: int) -> Tensor:
    """Compute ``x @ W.T``, or ``x @ W`` if ``transposed``; W, a matrix, is generated meanwhile.

    ``table``: shape (2**bits,), float32, for a distribution that is not built in. ``weight``: its weight_key().
    ``max_bytes``: see product(); 0 means no limit. Differentiable in ``x``, any number of times.
    """
    refuse_forward_mode()
    return product(x, matrix_of(weight, table), transposed=transposed, max_bytes=max_bytes or None)


def refuse_forward_mode() -> None:
    """Raise UnsupportedError inside ``torch.func.jvp`` and the like, where torch would take this derivative for zero.

    torch does so for every custom operator, and the input does not always show it.
    """
    if getattr(forward_ad, "_current_level", -1) >= 0:
        raise UnsupportedError(
            "cannot differentiate a generated weight in forward mode (torch.func.jvp, jacfwd, hessian)",
            hint='Use reverse mode (torch.autograd.grad), or load with backbone="materialised".',
        )


@generated_product.register_fake
def _(x: Tensor, table: Tensor | None, weight: str, transposed: bool, max_bytes: int) -> Tensor:  # noqa: ARG001
    rows, columns = parsed(weight).shape
    fake: Tensor = x.new_empty(*x.shape[:-1], columns if transposed else rows)
    return fake


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001 (torch gives it by name)
    _, *ctx.weight, ctx.transposed, ctx.max_bytes = inputs


def _gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    result = generated_product(gradient, *ctx.weight, not ctx.transposed, ctx.max_bytes)
    return result, None, None, None, None


generated_product.register_autograd(_gradient, setup_context=_keep)
let_vmap(generated_product, rows=True)
