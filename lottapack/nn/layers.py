"""Layers whose weight is generated and frozen, with a trained low-rank path beside it.

``h_out = beta * W h_in + s * B (A h_in)`` (LottaLoRA, arXiv 2604.08749), with a magnitude times that over the length of
each output's weights (DoRA, arXiv 2402.09353). W is a buffer that checkpoints do not contain.
Each class is the stock layer of the same name with another ``forward``: code that looks for the stock class,
its attributes or its ``weight`` still finds them. Spec: merge.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn

from lottapack.errors import PlacementError
from lottapack.format.descriptor import LAMBDAS, SCALES
from lottapack.format.factors import adapter_shapes
from lottapack.format.names import ADAPTER_PARTS, BACKBONE
from lottapack.format.recipe import AdaptedRecipe, scaling_factor
from lottapack.nn.generated import Generated
from lottapack.nn.generated_layer import GeneratedLayer, from_a_plan
from lottapack.nn.layer_weight import untraced
from lottapack.products.inputs import autocasts, require_taken
from lottapack.weights.merge import Parts, combined, merged, over_lengths


class AdapterLayer(GeneratedLayer):
    """The base of all layers with an adapter.

    Attributes:
        weight: the adapted weight: merged_weight() within rounding error, with gradients for the adapter,
            in the stock layer's shape; read-only.
        backbone: the generated weight, a frozen buffer.
        lora_A: parameter, shape (rank, d_in); lora_B: parameter, shape (d_out, rank); None for rank 0.
        beta: parameter, shape (1,), or None where it is fixed at 1.
        magnitude: parameter, shape (d_out,), or None.
        lambda_b, lambda_d: parameters, shapes (d_out,) and (rank,), which scale the factors (VeRA), or None.
        scale_in, scale_out: parameters, shapes (d_in,) and (d_out,), which scale the backbone, or None.
        scaling: the factor of ``B A``, a binary32 number.
        lora_dropout: probability with which inputs of the low-rank path are dropped in training.
    """

    lora_A: nn.Parameter
    lora_B: nn.Parameter
    beta: nn.Parameter | None
    magnitude: nn.Parameter | None
    lambda_b: nn.Parameter | None
    lambda_d: nn.Parameter | None
    scale_in: nn.Parameter | None
    scale_out: nn.Parameter | None
    scaling: float
    lora_dropout: float
    adapter_rank: int

    def add_adapter(self, entry: AdaptedRecipe, dropout: float) -> None:
        """Register the adapter's parameters, uninitialised, beside the weight (on its device, in its dtype)."""
        new, parts, frozen = self.backbone.new_empty, entry.parts, entry.frozen
        for part, shape in adapter_shapes(entry).items():
            self.register_parameter(part, nn.Parameter(new(shape), part not in frozen) if part in parts else None)
        self.scaling = scaling_factor(entry.alpha, entry.rank, entry.scaling)
        self.lora_dropout = dropout
        self.fan_in_fan_out = entry.fan_in_fan_out
        self.adapter_rank = entry.rank

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Keep ``beta`` whole where a plan of torch's shards every parameter: no optimizer updates a shard of it."""
        held = self._parameters.get(name)
        if name == "beta" and held is not None and hasattr(param, "device_mesh") and from_a_plan():
            from torch.distributed.tensor import Replicate, distribute_tensor

            mesh: Any = getattr(param, "device_mesh")  # noqa: B009
            whole = distribute_tensor(held.detach(), mesh, [Replicate()] * mesh.ndim)
            param = nn.Parameter(whole, requires_grad=held.requires_grad)
        super().register_parameter(name, param)

    @classmethod
    def taken_from(cls, module: nn.Module) -> str | None:
        """Return a parameter, buffer or child of a stock layer that the adapter would replace, or None."""
        held = module._parameters.keys() | module._buffers.keys() | module._modules.keys()
        return min(held & ({*AdapterLayer.__annotations__, "fan_in_fan_out", BACKBONE}), default=None)

    def merged_weight(self) -> Tensor:
        """Return the merged weight of this layer, in the weight's shape and dtype (spec: merge)."""
        return merged(
            self.backbone,
            *self._adapter(),
            scaling=self.scaling,
            fan_in_fan_out=self.fan_in_fan_out,
        )

    def _adapter(self) -> Parts:
        return Parts(**{part: getattr(self, part, None) for part in ADAPTER_PARTS})

    def _combine(self, backbone: Tensor, *adapter: Tensor | None) -> Tensor:
        return combined(backbone, *adapter, scaling=self.scaling, fan_in_fan_out=self.fan_in_fan_out)

    def extra_repr(self) -> str:
        """Return the stock layer's text, and rank, scaling and beta."""
        beta = "learned" if self.beta is not None else "1"
        dora = ", magnitude" if self.magnitude is not None else ""
        more = "".join(f", {part}" for part in (*LAMBDAS, *SCALES) if self._parameters.get(part) is not None)
        return f"{super().extra_repr()}, rank={self.adapter_rank}, scaling={self.scaling:g}, beta={beta}{dora}{more}"

    def _sum(self, x: Tensor) -> Tensor:
        """Return the layer's output: the stock layer's plus the low-rank path's, in the stock layer's dtype."""
        if isinstance(x, fx.Proxy):
            raise untraced(self)
        parts = self._adapter()
        low_rank = None if parts.lora_A is None else self._low_rank(x) * self.scaling
        if low_rank is not None and parts.lambda_b is not None:
            low_rank = low_rank * self._channels(parts.lambda_b)
        if parts.beta is None and parts.magnitude is None and low_rank is not None and not self._scales:
            stock = self._stock(x)  # including the bias, as in PEFT
            return (stock + low_rank).to(stock.dtype)
        backbone = self._scaled_product(x)
        out = backbone if parts.beta is None else backbone * parts.beta
        out = out if low_rank is None else low_rank + out
        if parts.magnitude is not None:
            out = out * self._channels(self._factors(parts.magnitude))
        # Adapters may be wider than the backbone, and under autocast beta is wider than the products.
        return self._biased(out if out.dtype == backbone.dtype else out.to(backbone.dtype))

    @property
    def _scales(self) -> bool:
        """Whether vectors scale the backbone."""
        return self.scale_in is not None or self.scale_out is not None

    def _channels(self, vector: Tensor) -> Tensor:
        """Return a number for each channel of an output, shaped to multiply it."""
        return vector.view(-1, *[1] * self._after_channels) if self._after_channels else vector

    def _low_rank(self, x: Tensor) -> Tensor:
        """Return the output of the low-rank path, without its scaling and ``lambda_b``."""
        return F.linear(self._of_ranks(F.linear(self._dropped(x), self.lora_A)), self.lora_B)

    def _of_ranks(self, hidden: Tensor) -> Tensor:
        """Return what is between the factors, times ``lambda_d``."""
        return hidden if self.lambda_d is None else hidden * self._channels(self.lambda_d)

    def _scaled_product(self, x: Tensor) -> Tensor:
        """Return the product of an input with the backbone, scaled by input and by output, without bias."""
        out = self._product(x if self.scale_in is None else (x * self.scale_in).to(x.dtype))
        return out if self.scale_out is None else (out * self._channels(self.scale_out)).to(out.dtype)

    def _factors(self, magnitude: Tensor) -> Tensor:
        """Return magnitude divided by length. As in DoRA, gradients do not pass through the length."""
        parts = self._adapter()
        if parts.has_vectors:
            with torch.no_grad():
                matrix = parts.stored_as(
                    self._combine(self.backbone, *parts._replace(magnitude=None)), self.fan_in_fan_out
                )
                lengths = torch.linalg.vector_norm(matrix, dim=0 if self.fan_in_fan_out else 1)
            return over_lengths(magnitude, lengths)
        with torch.no_grad():
            backbone = self.backbone
            matrix = backbone.t() if self.fan_in_fan_out else backbone.flatten(1)
            matrix = matrix if self.beta is None else matrix * self.beta
            lengths = torch.linalg.vector_norm(matrix + self.scaling * (self.lora_B @ self.lora_A), dim=1)
        return over_lengths(magnitude, lengths)

    def _dropped(self, x: Tensor) -> Tensor:
        """Return the input of the low-rank path, in the adapter's dtype, which may be wider than the backbone's."""
        kind = self.lora_A.dtype
        if x.dtype != kind and not autocasts(x.device.type):
            x = x.to(kind)
        return F.dropout(x, self.lora_dropout, self.training) if self.lora_dropout else x


class LinearAdapter(AdapterLayer):
    """The base of layers whose output is a product of matrices, which a generated weight adds in one pass."""

    def _sum(self, x: Tensor) -> Tensor:
        parts = self._adapter()
        plain = parts.magnitude is None and not parts.has_vectors and not (self.training and self.lora_dropout)
        if self.generated is not None and plain:
            out = self.generated.adapted_product(x, parts[:3], self.scaling, self.fan_in_fan_out)
            if out is not None:
                return self._biased(out)
        return super()._sum(x)


class GeneratedLinear(GeneratedLayer, nn.Linear):
    """``nn.Linear`` with a generated weight."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the stock layer's name)
        """Args: input, shape (..., in_features). Returns: shape (..., out_features)."""
        return self._stock(input)


class AdaptedLinear(LinearAdapter, nn.Linear):
    """``nn.Linear`` with an adapter."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Args: input, shape (..., in_features). Returns: shape (..., out_features)."""
        return self._sum(input)


class _Conv(GeneratedLayer):
    """Convolutions, with the kernel as (C_out, C_in / groups * k)."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding_mode: Any
    bias: Tensor | None
    _reversed_padding_repeated_twice: Any

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        raise NotImplementedError  # pragma: no cover (nn.Conv1d and nn.Conv2d bring it)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Args: input, shape (batch, C_in, ...) or (C_in, ...). Returns: shape (batch, C_out, ...) or (C_out, ...)."""
        return self._stock(input)

    def _dense(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._conv_forward(x, weight, bias)

    def _virtual(self, x: Tensor, generated: Generated) -> Tensor:
        require_taken(x, generated.source.name)
        dims = self._after_channels
        if x.dim() == dims + 1:  # one input without a batch around it
            return self._virtual(x.unsqueeze(0), generated).squeeze(0)
        if x.dim() != dims + 2:
            raise RuntimeError(
                f"Expected {dims + 1}D (unbatched) or {dims + 2}D (batched) input to conv{dims}d, but got input of "
                f"size: {list(x.shape)}"
            )
        padding = self.padding
        if self.padding_mode != "zeros":
            x = F.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        elif padding == "same":
            x = F.pad(x, self._reversed_padding_repeated_twice)
        if isinstance(padding, str) or self.padding_mode != "zeros":
            padding = (0,) * dims
        return generated.convolution(x, self.stride, padding, self.dilation, self.groups)


class GeneratedConv1d(_Conv, nn.Conv1d):
    """``nn.Conv1d`` with a generated weight."""

    _after_channels = 1
    _conv_forward = nn.Conv1d._conv_forward


class GeneratedConv2d(_Conv, nn.Conv2d):
    """``nn.Conv2d`` with a generated weight."""

    _after_channels = 2
    _conv_forward = nn.Conv2d._conv_forward


class _AdaptedConv(AdapterLayer, _Conv):
    """Groups share A, and each has its own rows of B."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Args: input, shape (batch, C_in, ...). Returns: shape (batch, C_out, ...)."""
        return self._sum(input)

    def _low_rank(self, x: Tensor) -> Tensor:
        kernel = self.lora_A if self.lambda_d is None else self.lambda_d[:, None] * self.lora_A
        kernel = kernel.view(self.adapter_rank, -1, *self.kernel_size)
        kernel = kernel.repeat(self.groups, *[1] * (kernel.dim() - 1))
        down = self._conv_forward(self._dropped(x), kernel, None)
        pointwise = self.lora_B.view(*self.lora_B.shape, *[1] * self._after_channels)
        convolve: Callable[..., Tensor] = getattr(F, f"conv{self._after_channels}d")
        return convolve(down, pointwise, groups=self.groups)

    def _scaled_product(self, x: Tensor) -> Tensor:
        if self.scale_in is None:
            return super()._scaled_product(x)
        weight = self._backbone_for(x)
        scaled = (weight * self.scale_in.view(1, *weight.shape[1:])).to(weight.dtype)
        out = self._conv_forward(x, scaled, None)
        return out if self.scale_out is None else (out * self._channels(self.scale_out)).to(out.dtype)


class AdaptedConv1d(_AdaptedConv, GeneratedConv1d):
    """``nn.Conv1d`` with an adapter."""


class AdaptedConv2d(_AdaptedConv, GeneratedConv2d):
    """``nn.Conv2d`` with an adapter."""


class GeneratedEmbedding(GeneratedLayer, nn.Embedding):
    """``nn.Embedding`` with a generated weight: if it is not in memory, the rows that are looked up are generated."""

    bias = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Args: input, integer indices of any shape. Returns: shape (*input.shape, embedding_dim)."""
        return self._stock(input)

    def _dense(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ARG002 (it has none)
        return F.embedding(x, weight, self.padding_idx, scale_grad_by_freq=self.scale_grad_by_freq)

    def _virtual(self, x: Tensor, generated: Generated) -> Tensor:
        operand = next((part for part in self._parameters.values() if part is not None), generated.like)
        return generated.rows(x, operand.dtype)


class AdaptedEmbedding(AdapterLayer, GeneratedEmbedding):
    """``nn.Embedding`` with an adapter: the table is stored as (in, out), so ``fan_in_fan_out`` is true."""

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Refuse torch's column-wise plan before it fails, since it shards every parameter on dimension 1.

        Only the caller distinguishes the plan from FSDP2 or ``fill_``, which may shard the same tensors on dimension 1.
        """
        placements = getattr(param, "placements", ())
        if any(getattr(placement, "dim", 0) == 1 for placement in placements) and from_a_plan():
            flat = [name for name, one in self._parameters.items() if one is not None and one.dim() == 1]
            why = f"{' and '.join(flat)}, of one dimension, cannot be split by columns, and " if flat else ""
            raise PlacementError(
                f"ColwiseParallel cannot shard {self}: {why}lora_B would be split by rank",
                hint="Give this layer RowwiseParallel, or load the model with merge=True.",
            )
        super().register_parameter(name, param)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Args: input, integer indices of any shape. Returns: shape (*input.shape, embedding_dim)."""
        return self._sum(input)

    def _dense(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _added_up(super()._dense(x, weight, bias))

    def _low_rank(self, x: Tensor) -> Tensor:
        return F.linear(self._of_ranks(self._dropped(self._dense(x, self.lora_A.t(), None))), self.lora_B)

    def _scaled_product(self, x: Tensor) -> Tensor:
        out = self._product(x)
        for scales in (None if self.scale_in is None else _added_up(self.scale_in[x]).unsqueeze(-1), self.scale_out):
            out = out if scales is None else (out * scales).to(out.dtype)
        return out

    def _backbone_for(self, operand: Tensor) -> Tensor:  # noqa: ARG002 (indices)
        return super()._backbone_for(next(part for part in self._adapter() if part is not None))


def _added_up(rows: Tensor) -> Tensor:
    """Return rows of a table whose rows are sharded, added up over its parts.

    torch adds up such partial rows only once, but the gradient of what multiplies them needs them again.
    """
    placements: Any = getattr(rows, "placements", ())
    if not any(placement.is_partial() for placement in placements):
        return rows
    from torch.distributed.tensor import Replicate

    whole = [Replicate() if placement.is_partial() else placement for placement in placements]
    return rows.redistribute(placements=whole)  # type: ignore[attr-defined, no-any-return]
