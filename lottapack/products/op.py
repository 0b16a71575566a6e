"""The product as one operator of torch's, so that compilers see a single call and autograd generates it again."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from lottapack import rng
from lottapack.errors import UnsupportedError
from lottapack.products.inputs import let_vmap
from lottapack.products.product import Matrix, product


@torch.library.custom_op("lottapack::generated_product", mutates_args=())
def generated_product(
    x: Tensor,
    table: Tensor | None,
    distribution: str,
    seed: str,
    name: str,
    scale: float,
    dtype: str,
    rows: int,
    columns: int,
    transposed: bool,
    max_bytes: int,
) -> Tensor:
    """``x @ W.T``, or ``x @ W`` if ``transposed``, where W, shape (rows, columns), is generated meanwhile.

    ``table``: shape (2**bits,), float32, of a distribution that is not built in. ``seed``: 16 hexadecimal digits.
    ``name``: of the tensor, whose stream it has. ``scale``, ``dtype``: as recorded. ``max_bytes``: see product();
    0 is no limit. Differentiable in ``x``, any number of times.
    """
    refuse_forward_mode()
    source = source_of(table, distribution, seed, name, scale, dtype)
    return product(x, Matrix(source, (rows, columns)), transposed=transposed, max_bytes=max_bytes or None)


def refuse_forward_mode() -> None:
    """Raise UnsupportedError within ``torch.func.jvp`` and the like, where torch takes this derivative for zero.

    That is what it does for every operator that is not its own, and the input does not always show it.
    """
    if getattr(forward_ad, "_current_level", -1) >= 0:
        raise UnsupportedError(
            "a weight that is generated has no derivative in forward mode (torch.func.jvp, jacfwd, hessian)",
            hint='Use reverse mode (torch.autograd.grad), or load with backbone="materialised".',
        )


def source_of(table: Tensor | None, distribution: str, seed: str, name: str, scale: float, dtype: str) -> rng.Source:
    """What the arguments of an operator name."""
    return _source(None if table is None else _Values(table), distribution, seed, name, scale, dtype)


class _Values:
    """A table's values, equal if they are the same tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __hash__(self) -> int:
        return id(self.tensor)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Values) and self.tensor is other.tensor


@lru_cache(maxsize=4096)
def _source(table: _Values | None, distribution: str, seed: str, name: str, scale: float, dtype: str) -> rng.Source:
    found = rng.builtin(distribution) if table is None else rng.custom(distribution, table.tensor.cpu().numpy())
    return rng.Source(int(seed, 16), name, found, scale, dtype)


@generated_product.register_fake
def _(x: Tensor, *rest: Any) -> Tensor:
    rows, columns, transposed = rest[6:9]
    fake: Tensor = x.new_empty(*x.shape[:-1], columns if transposed else rows)
    return fake


def _keep(ctx: object, inputs: tuple[object, ...], output: Tensor) -> None:  # noqa: ARG001 (torch gives it by name)
    ctx.rest = inputs[1:]  # type: ignore[attr-defined]


def _gradient(ctx: object, gradient: Tensor) -> tuple[Tensor | None, ...]:
    *rest, transposed, max_bytes = ctx.rest  # type: ignore[attr-defined]
    found = generated_product(gradient, *rest, not transposed, max_bytes)
    return found, *[None] * 10


generated_product.register_autograd(_gradient, setup_context=_keep)
let_vmap(generated_product, rows=True)
