"""Merge an adapter into its weight, with the same bits on every device (spec: merge)."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from lottapack.format.descriptor import Adapted
from lottapack.format.recipe import AdaptedRecipe, scaling_factor

_CHUNK = 1 << 17  # elements at a time: the partial sums stay in the cache
_CHUNK_ELSEWHERE: Final = 1 << 20  # on other devices, where each operation costs a launch
_CHUNK_LENGTHS = 1 << 20  # with magnitudes: lengths are summed input by input, all outputs of a step at once
_SQUARED: Final = 64  # inputs whose squares are taken together

Backbone = Callable[[int, int], Tensor]
"""``backbone(first, last)``: elements ``first`` to ``last - 1`` of the weight in its recorded dtype, one dimension."""


def merged(
    weight: Tensor,
    lora_A: Tensor,
    lora_B: Tensor,
    beta: Tensor | None,
    magnitude: Tensor | None = None,
    *,
    scaling: float,
    fan_in_fan_out: bool,
) -> Tensor:
    """Return ``beta * W + s * B A``, each operation rounded to binary32, ranks summed in order.

    With a magnitude, each output's weights are then scaled to that length (DoRA, arXiv 2402.09353).

    Args:
        weight: the backbone in its recorded dtype and shape.
        lora_A: shape (*batch, rank, d_in); a batch counts matrices, which are merged one by one.
        lora_B: shape (*batch, d_out, rank). One of the two may serve all matrices, without the batch's dimensions.
        beta: shape (1,), or None for 1.
        magnitude: shape (*batch, d_out), or None.
        scaling: the binary32 factor s.
        fan_in_fan_out: whether each matrix of weight is stored as (d_in, d_out).

    Returns:
        A new tensor like ``weight``.
    """
    out = torch.empty_like(weight, memory_format=torch.contiguous_format)
    merge_into(
        out,
        _elements(weight),
        lora_A,
        lora_B,
        beta,
        magnitude,
        scaling=scaling,
        fan_in_fan_out=fan_in_fan_out,
    )
    return out


def combined(
    weight: Tensor,
    lora_A: Tensor,
    lora_B: Tensor,
    beta: Tensor | None,
    magnitude: Tensor | None = None,
    *,
    scaling: float,
    fan_in_fan_out: bool,
) -> Tensor:
    """Merge like merged(), but with torch's products and with gradients: equal within rounding error, not in bits.

    As in DoRA, the lengths do not get gradients. Computes in binary32, or in the weight's dtype if that is wider.
    """
    kind = torch.promote_types(weight.dtype, torch.float32)
    rows, columns = (lora_A.mT, lora_B.mT) if fan_in_fan_out else (lora_B, lora_A)
    with _full_precision(weight.device.type):
        out = (rows.to(kind) @ columns.to(kind)) * scaling
        wide = weight.reshape(out.shape).to(kind)
        out = out + (wide if beta is None else wide * beta.to(kind))
        if magnitude is not None:
            inputs = -2 if fan_in_fan_out else -1
            lengths = torch.linalg.vector_norm(out.detach(), dim=inputs)
            factors = torch.where(lengths == 0, 0, magnitude.to(kind) / lengths)
            out = out * factors.unsqueeze(inputs)
        return out.view(weight.shape).to(weight.dtype)


def _full_precision(device: str) -> AbstractContextManager[Any]:
    """Disable autocast, which would compute the product of the factors in its own dtype."""
    return nullcontext() if device == "meta" else torch.autocast(device, enabled=False)


@torch.no_grad()
def merge_into(
    out: Tensor,
    backbone: Backbone,
    lora_A: Tensor,
    lora_B: Tensor,
    beta: Tensor | None,
    magnitude: Tensor | None = None,
    *,
    scaling: float,
    fan_in_fan_out: bool,
) -> None:
    """Merge like merged(), but into existing memory, with a few MiB more: the backbone is requested piece by piece.

    ``out``: contiguous, in the weight's shape. Its dtype may differ from the recorded one, to which the result is
    rounded first. It may be the memory that ``backbone`` reads: no piece is requested after it is written.
    ``backbone``: returns the weight's elements, on the device of ``out``.
    """
    count = math.prod(lora_A.shape[:-2] or lora_B.shape[:-2])
    matrices = out.view(count, -1)
    factors_a, factors_b = (
        factor.expand(count, -1, -1) if factor.dim() == 2 else factor.reshape(count, *factor.shape[-2:])
        for factor in (lora_A, lora_B)
    )
    lengths = None if magnitude is None else magnitude.reshape(count, -1)
    size = matrices.shape[1]
    for number in range(count):

        def elements(first: int, last: int, start: int = number * size) -> Tensor:
            return backbone(start + first, start + last)

        _merge_matrix(
            matrices[number],
            elements,
            factors_a[number],
            factors_b[number],
            beta,
            None if lengths is None else lengths[number],
            scaling=scaling,
            fan_in_fan_out=fan_in_fan_out,
        )


def _merge_matrix(
    out: Tensor,
    backbone: Backbone,
    lora_A: Tensor,
    lora_B: Tensor,
    beta: Tensor | None,
    magnitude: Tensor | None,
    *,
    scaling: float,
    fan_in_fan_out: bool,
) -> None:
    """As merge_into(), of one matrix."""
    # Products commute, so the transposed weight needs only the factors' places exchanged.
    rows, columns = (lora_A.t(), lora_B.t()) if fan_in_fan_out else (lora_B, lora_A)
    rows, columns = rows.float().contiguous(), columns.float().contiguous()
    matrix = out.view(rows.shape[0], columns.shape[1])
    factor = None if beta is None else beta.float()

    def piece(part: slice) -> tuple[Tensor, torch.dtype]:
        """Return the unrounded weights of some rows, and the recorded dtype."""
        # mul and add as two calls: addmm, addcmul and baddbmm may fuse them into one rounding.
        low_rank = rows[part, :1] * columns[:1]
        product = torch.empty_like(low_rank)
        for r in range(1, columns.shape[0]):
            torch.mul(rows[part, r : r + 1], columns[r : r + 1], out=product)
            low_rank.add_(product)
        low_rank.mul_(scaling)
        recorded_weights = backbone(part.start * matrix.shape[1], part.stop * matrix.shape[1]).view(low_rank.shape)
        wide = recorded_weights.float()
        return low_rank.add_(wide if factor is None else torch.mul(wide, factor, out=product)), recorded_weights.dtype

    def parts(chunk: int) -> list[slice]:
        step = max(1, chunk // max(1, matrix.shape[1]))
        return [slice(first, min(first + step, len(matrix))) for first in range(0, len(matrix), step)]

    shared: Tensor | None = None
    chunk = _CHUNK if out.device.type == "cpu" else _CHUNK_ELSEWHERE
    if magnitude is not None and fan_in_fan_out:
        # A length is that of the unrounded weights, of which only one piece is kept, so they are computed twice.
        lengths = _Lengths(matrix.shape[1], out.device)
        for part in parts(chunk):
            lengths.add(piece(part)[0])
        shared = lengths.factors(magnitude)
    elif magnitude is not None:
        chunk = _CHUNK_LENGTHS
    for part in parts(chunk):
        unrounded, recorded = piece(part)
        if shared is not None:
            unrounded.mul_(shared)
        elif magnitude is not None:
            unrounded.mul_(length_factors(unrounded.t().contiguous(), magnitude[part])[:, None])
        matrix[part] = unrounded.to(recorded)


class _Lengths:
    """The sums of squares of each output's weights, in binary64 and in the order of the inputs."""

    def __init__(self, outputs: int, device: torch.device) -> None:
        # Other kinds of devices lack binary64.
        self.device = device if device.type in ("cpu", "cuda") else torch.device("cpu")
        self.total = torch.zeros(outputs, dtype=torch.float64, device=self.device)
        self.home = device

    def add(self, inputs: Tensor) -> None:
        """Add the next inputs' weights: shape (inputs, outputs), binary32."""
        inputs = inputs.to(self.device)
        for first in range(0, len(inputs), _SQUARED):
            wide = inputs[first : first + _SQUARED].double()
            for squares in wide.mul_(wide).unbind():
                self.total.add_(squares)

    def factors(self, magnitude: Tensor) -> Tensor:
        """Return the factor of each output's weights."""
        lengths = np.sqrt(self.total.cpu().numpy())  # NumPy rounds square roots correctly on every platform
        wanted = magnitude.double().cpu().numpy()
        quotients = np.divide(wanted, lengths, out=np.zeros_like(lengths), where=lengths != 0)
        return torch.from_numpy(quotients).float().to(self.home)


def length_factors(inputs: Tensor, magnitude: Tensor) -> Tensor:
    """Return the factor of each output's weights: shape (d_out,), binary32 (spec: merge, step 4).

    ``inputs``: the unrounded weights, shape (d_in, d_out), binary32. ``magnitude``: shape (d_out,).
    """
    lengths = _Lengths(inputs.shape[1], inputs.device)
    lengths.add(inputs)
    return lengths.factors(magnitude)


def merge_adapter(weight: Tensor, adapter: Mapping[str, Tensor], entry: Adapted | AdaptedRecipe) -> Tensor:
    """Merge like merged(), with the adapter's tensors by name and its numbers from the entry."""
    return merged(weight, *_tensors(adapter), **_numbers(entry))


def merge_adapter_into(
    out: Tensor, backbone: Backbone | None, adapter: Mapping[str, Tensor], entry: Adapted | AdaptedRecipe
) -> None:
    """Merge like merge_into(), with tensors by name and numbers from the entry; without ``backbone``, in place."""
    merge_into(out, backbone or _elements(out), *_tensors(adapter), **_numbers(entry))


def _tensors(adapter: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    return adapter["lora_A"], adapter["lora_B"], adapter.get("beta"), adapter.get("magnitude")


def _numbers(entry: Adapted | AdaptedRecipe) -> dict[str, Any]:
    scaling = scaling_factor(entry.alpha, entry.rank, entry.scaling)
    return {"scaling": scaling, "fan_in_fan_out": entry.fan_in_fan_out}


def _elements(weight: Tensor) -> Backbone:
    flat = weight.detach().reshape(-1)
    return lambda first, last: flat[first:last]
