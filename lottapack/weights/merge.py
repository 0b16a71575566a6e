"""Merge an adapter into its weight, with the same bits on every device (spec: merge)."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lottapack.format.descriptor import FACTORS, Adapted
from lottapack.format.factors import BY_INPUT, BY_OUTPUT
from lottapack.format.recipe import AdaptedRecipe, scaling_factor

_CHUNK = 1 << 17  # elements at a time: the partial sums stay in the cache
_CHUNK_ELSEWHERE: Final = 1 << 20  # on other devices, where each operation costs a launch
_CHUNK_LENGTHS = 1 << 20  # with magnitudes: lengths are summed input by input, all outputs of a step at once
_SQUARED: Final = 64  # inputs whose squares are taken together

Backbone = Callable[[int, int], Tensor]
"""``backbone(first, last)``: elements ``first`` to ``last - 1`` of the weight in its recorded dtype, one dimension."""


class Parts(NamedTuple):
    """The tensors of an adapter, in the order of ADAPTER_PARTS; None for those that it does not have.

    With a batch of matrices each but ``beta`` and a factor that they share has the dimensions of the batch first.
    """

    lora_A: Tensor | None = None  # noqa: N815
    lora_B: Tensor | None = None  # noqa: N815
    beta: Tensor | None = None
    magnitude: Tensor | None = None
    lambda_b: Tensor | None = None
    lambda_d: Tensor | None = None
    scale_in: Tensor | None = None
    scale_out: Tensor | None = None

    def factors(self, kind: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """Return A and B in a dtype, each times its vector if it has one (spec: merge, step 3)."""
        if self.lora_A is None or self.lora_B is None:
            return None
        down, up = self.lora_A.to(kind), self.lora_B.to(kind)
        if self.lambda_d is not None:
            down = self.lambda_d.to(kind).unsqueeze(-1) * down
        if self.lambda_b is not None:
            up = self.lambda_b.to(kind).unsqueeze(-1) * up
        return down, up

    @property
    def has_vectors(self) -> bool:
        """Whether it is more than factors, beta and magnitude, or has no factors."""
        return self.lora_A is None or any(part is not None for part in self[4:])

    def stored_as(self, weight: Tensor, fan_in_fan_out: bool) -> Tensor:
        """Return the weight as matrices of rows and columns, as they are stored."""
        known = {"d_out": -1, "d_in": -1}
        batch: tuple[int, ...] = ()
        for name, part in self._asdict().items():
            if part is None or name == "beta":
                continue
            batch = max(batch, tuple(part.shape[: -_own_dims(name)]), key=len)
            if name in BY_INPUT:
                known["d_in"] = part.shape[-1]
            elif name in BY_OUTPUT:
                known["d_out"] = part.shape[-2 if name in FACTORS else -1]
        sides = (known["d_in"], known["d_out"]) if fan_in_fan_out else (known["d_out"], known["d_in"])
        return weight.reshape(-1, 1) if sides == (-1, -1) else weight.reshape(*batch, *sides)

    def matrix(self, number: int) -> "Parts":
        """Return the tensors of one matrix of a batch. Those without the batch's dimensions serve every matrix."""
        own: dict[str, Tensor | None] = {}
        for name, part in self._asdict().items():
            sides = _own_dims(name)
            alone = part is None or part.dim() == sides
            own[name] = part if alone else part.reshape(-1, *part.shape[-sides:])[number]
        return Parts(**own)


def _own_dims(name: str) -> int:
    """Return the dimensions of an adapter's tensor for one matrix."""
    return 2 if name in FACTORS else 1


def merged(weight: Tensor, *adapter: Tensor | None, scaling: float, fan_in_fan_out: bool) -> Tensor:
    """Return ``beta * W + s * B A``, each operation rounded to binary32, ranks summed in order.

    With a magnitude, each output's weights are then scaled to that length (DoRA, arXiv 2402.09353).

    Args:
        weight: the backbone in its recorded dtype and shape.
        *adapter: the tensors of Parts; a batch counts matrices, which are merged one by one. A factor without the
            batch's dimensions serves all matrices.
        scaling: the binary32 factor s.
        fan_in_fan_out: whether each matrix of weight is stored as (d_in, d_out).

    Returns:
        A new tensor like ``weight``.
    """
    out = torch.empty_like(weight, memory_format=torch.contiguous_format)
    merge_into(out, _elements(weight), *adapter, scaling=scaling, fan_in_fan_out=fan_in_fan_out)
    return out


def combined(weight: Tensor, *adapter: Tensor | None, scaling: float, fan_in_fan_out: bool) -> Tensor:
    """Merge like merged(), but with torch's products and with gradients: equal within rounding error, not in bits.

    As in DoRA, the lengths do not get gradients. Computes in binary32, or in the weight's dtype if that is wider.
    """
    parts = Parts(*adapter)
    kind = torch.promote_types(weight.dtype, torch.float32)
    inputs = -2 if fan_in_fan_out else -1
    outputs = -3 - inputs
    with _full_precision(weight.device.type):
        out = parts.stored_as(weight, fan_in_fan_out).to(kind)
        for vector, along in ((parts.scale_in, outputs), (parts.scale_out, inputs)):
            out = out if vector is None else out * vector.to(kind).unsqueeze(along)
        out = out if parts.beta is None else out * parts.beta.to(kind)
        factors = parts.factors(kind)
        if factors is not None:
            down, up = factors
            product = down.mT @ up.mT if fan_in_fan_out else up @ down
            if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
                out = product * scaling + out
            else:
                out = product.mul_(scaling).add_(out)  # the same bits in less memory
        if parts.magnitude is not None:
            lengths = torch.linalg.vector_norm(out.detach(), dim=inputs)
            out = out * over_lengths(parts.magnitude.to(kind), lengths).unsqueeze(inputs)
        return out.view(weight.shape).to(weight.dtype)


def over_lengths(magnitude: Tensor, lengths: Tensor) -> Tensor:
    """Return magnitude / lengths, and 0 with a gradient of 0 where a length is 0 (spec: merge, step 4)."""
    none = lengths == 0
    return (magnitude / lengths.masked_fill(none, 1)).masked_fill(none, 0)


def _full_precision(device: str) -> AbstractContextManager[Any]:
    """Disable autocast, which would compute the product of the factors in its own dtype."""
    return nullcontext() if device == "meta" else torch.autocast(device, enabled=False)


@torch.no_grad()
def merge_into(out: Tensor, backbone: Backbone, *adapter: Tensor | None, scaling: float, fan_in_fan_out: bool) -> None:
    """Merge like merged(), but into existing memory, with a few MiB more: the backbone is requested piece by piece.

    ``out``: contiguous, in the weight's shape. Its dtype may differ from the recorded one, to which the result is
    rounded first. It may be the memory that ``backbone`` reads: no piece is requested after it is written.
    ``backbone``: returns the weight's elements, on the device of ``out``.
    """
    parts = Parts(*adapter)
    stored = parts.stored_as(out, fan_in_fan_out)
    matrices = stored.view(-1, *stored.shape[-2:])
    size = matrices[0].numel()
    for number, matrix in enumerate(matrices):

        def elements(first: int, last: int, start: int = number * size) -> Tensor:
            return backbone(start + first, start + last)

        _merge_matrix(matrix, elements, parts.matrix(number), scaling=scaling, fan_in_fan_out=fan_in_fan_out)


def _merge_matrix(matrix: Tensor, backbone: Backbone, adapter: Parts, *, scaling: float, fan_in_fan_out: bool) -> None:
    """As merge_into(), of one matrix of rows and columns."""
    factors = adapter.factors(torch.float32)
    # Products commute, so the transposed weight needs only the factors' places exchanged.
    down_up = None if factors is None else (factors[0].t(), factors[1].t()) if fan_in_fan_out else factors[::-1]
    low_rank_of = None if down_up is None else _Sums(*down_up)
    magnitude = adapter.magnitude

    def piece(part: slice) -> tuple[Tensor, torch.dtype]:
        """Return the unrounded weights of some rows, and the recorded dtype."""
        low_rank = None if low_rank_of is None else low_rank_of(part).mul_(scaling)
        recorded = backbone(part.start * matrix.shape[1], part.stop * matrix.shape[1]).view(-1, matrix.shape[1])
        wide = _scaled(recorded.float(), adapter, part, fan_in_fan_out=fan_in_fan_out)
        # mul and add as two calls: addmm, addcmul and baddbmm may fuse them into one rounding.
        return wide if low_rank is None else low_rank.add_(wide), recorded.dtype

    def parts(chunk: int) -> list[slice]:
        step = max(1, chunk // max(1, matrix.shape[1]))
        return [slice(first, min(first + step, len(matrix))) for first in range(0, len(matrix), step)]

    shared: Tensor | None = None
    chunk = _CHUNK if matrix.device.type == "cpu" else _CHUNK_ELSEWHERE
    if magnitude is not None and fan_in_fan_out:
        # A length is that of the unrounded weights, of which only one piece is kept, so they are computed twice.
        lengths = _Lengths(matrix.shape[1], matrix.device)
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


def _scaled(rows: Tensor, adapter: Parts, part: slice, *, fan_in_fan_out: bool) -> Tensor:
    """Return rows of the backbone times ``scale_in``, ``scale_out`` and ``beta``, each product rounded.

    Without any of these, they are the same tensor.
    """
    for vector, of_rows in ((adapter.scale_in, fan_in_fan_out), (adapter.scale_out, not fan_in_fan_out)):
        if vector is not None:
            rows = rows * (vector.float()[part, None] if of_rows else vector.float())
    return rows if adapter.beta is None else rows * adapter.beta.float()


class _Sums:
    """The product of two factors, ranks summed in order."""

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        self.rows, self.columns = rows.contiguous(), columns.contiguous()

    def __call__(self, part: slice) -> Tensor:
        """Return some rows of it."""
        rows, columns = self.rows, self.columns
        total = rows[part, :1] * columns[:1]
        product = torch.empty_like(total)
        for r in range(1, columns.shape[0]):
            torch.mul(rows[part, r : r + 1], columns[r : r + 1], out=product)
            total.add_(product)
        return total


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


def _tensors(adapter: Mapping[str, Tensor]) -> Parts:
    return Parts(**adapter)


def _numbers(entry: Adapted | AdaptedRecipe) -> dict[str, Any]:
    scaling = scaling_factor(entry.alpha, entry.rank, entry.scaling)
    return {"scaling": scaling, "fan_in_fan_out": entry.fan_in_fan_out}


def _elements(weight: Tensor) -> Backbone:
    flat = weight.detach().reshape(-1)
    return lambda first, last: flat[first:last]
