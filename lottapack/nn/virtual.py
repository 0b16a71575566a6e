"""Layers without a backbone: its product is generated at each call, forward and backward, and forgotten.

Each class is a layer with another product. Its ``weight`` generates the backbone when an operation uses it, in the
dtype and on the device that the layer was moved to.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lottapack import rng
from lottapack.nn import layers
from lottapack.nn.generated_layer import GeneratedLayer, held_as
from lottapack.nn.layer_weight import SOURCES, layer_weight
from lottapack.nn.recomputing import refuse_other_backbone
from lottapack.nn.tied_head import TiedHead
from lottapack.products.adapted import generated_adapted_product
from lottapack.products.convolution import generated_convolution
from lottapack.products.inputs import autocasts, require_taken
from lottapack.products.op import generated_product
from lottapack.products.rows import generated_rows
from lottapack.products.weight_key import weight_key
from lottapack.rng.scales import BUILTIN


class VirtualLayer(GeneratedLayer):
    """What all layers without a backbone share.

    Attributes:
        weight_shape: of the weight that is not there.
        weight_like: an empty tensor of the dtype and device that it would have.
        weight_table: the values of a table that is not built in, or None.
        max_bytes: of the memory for the part that is generated at a time; 0 is no limit.
    """

    weight_shape: tuple[int, ...]
    weight_like: Tensor
    weight_table: Tensor | None
    max_bytes: int

    if TYPE_CHECKING:
        backbone: Tensor
    else:

        @property
        def backbone(self) -> Tensor:
            """The generated weight, made for this call, shape ``weight_shape``."""
            return _generated(self._source(), self.weight_shape, self.weight_like)

    def _read_weight(self) -> Tensor:
        refuse_other_backbone(self)
        source, shape, like = self._source(), self.weight_shape, self.weight_like

        def combine(_: None, *adapter: Tensor | None) -> Tensor:
            return self._combine(_generated(source, shape, like), *adapter)

        of_shape = torch.empty(shape, dtype=like.dtype, device="meta")
        return layer_weight(self, combine, of_shape, like.device, None, self._adapter())

    def _source(self) -> rng.Source:
        found: rng.Source = self.__dict__[SOURCES]["weight"]
        return found

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self.weight_like = fn(self.weight_like)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _named(self) -> tuple[Tensor | None, str]:
        """The weight as operators take it: a table's values, and the key."""
        return self.weight_table, weight_key(self._source(), self.weight_shape)

    def _matrix(self) -> tuple[Tensor | None, str, bool, int]:
        """The weight as the arguments of generated_product()."""
        return *self._named(), bool(getattr(self, "fan_in_fan_out", False)), self.max_bytes

    def _product(self, x: Tensor) -> Tensor:
        require_taken(x, self._source().name)
        found: Tensor = generated_product(_cast(x), *self._matrix())
        return found

    def _stock(self, x: Tensor) -> Tensor:
        return layers.AdapterLayer._stock(self, x)  # type: ignore[arg-type] # not the form that reads the weight


def _generated(source: rng.Source, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A weight in the dtype and on the device of a tensor."""
    recorded: torch.dtype = getattr(torch, source.dtype)
    return rng.fill_(torch.empty(shape, dtype=recorded, device=like.device), source).to(like.dtype)


def _cast(x: Tensor) -> Tensor:
    """What autocast makes of a product's input."""
    kind = x.device.type
    if x.dtype == torch.float64 or not autocasts(kind):
        return x
    return x.to(torch.get_autocast_dtype(kind))


def make_virtual(module: nn.Module, form: type[VirtualLayer], source: rng.Source, max_bytes: int = 0) -> None:
    """Let a layer whose weight is a buffer that ``source`` fills do without it, in place, by the form for that."""
    leaf = held_as(module, "weight")
    weight = module._buffers.pop(leaf)
    assert weight is not None
    module._non_persistent_buffers_set.discard(leaf)
    builtin = source.table.id in BUILTIN
    module.__dict__.setdefault(SOURCES, {})["weight"] = source
    module.__dict__.update(
        weight_shape=tuple(weight.shape),
        weight_like=weight.new_empty(0),
        weight_table=None if builtin else torch.from_numpy(source.table.values.copy()),
        max_bytes=max_bytes,
    )
    # Swapping the class keeps the module's identity, its hooks and every reference to it.
    module.__class__ = form


def joined(layer: layers.AdapterLayer, x: Tensor) -> Tensor | None:
    """What a linear layer gives but for its bias, its adapter added within its product; None where that cannot be.

    It cannot with a magnitude, with dropout, and where dtypes differ, as under autocast: torch then puts the parts
    together.
    """
    assert isinstance(layer, VirtualLayer)
    require_taken(x, layer._source().name)
    adapter = layer.lora_A, layer.lora_B, layer.beta
    if (
        layer.magnitude is not None
        or (layer.training and layer.lora_dropout)
        or autocasts(x.device.type)
        or any(part is not None and part.dtype != x.dtype for part in adapter)
    ):
        return None
    found: Tensor = generated_adapted_product(x, *adapter, layer.scaling, *layer._matrix())
    return found


class VirtualLinear(VirtualLayer, nn.Linear):
    """``nn.Linear`` without a backbone."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Args: input, shape (..., in_features). Returns: shape (..., out_features)."""
        out = self._product(input)
        return out if self.bias is None else out + self.bias.to(out.dtype)


class VirtualAdaptedLinear(VirtualLayer, layers.AdaptedLinear):
    """``nn.Linear`` with an adapter, without a backbone."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Args: input, shape (..., in_features). Returns: shape (..., out_features)."""
        out = joined(self, input)
        if out is None:
            return super().forward(input)
        return out if self.bias is None else out + self.bias.to(out.dtype)


class VirtualTiedHead(VirtualLayer, TiedHead):
    """The head of an embedding with an adapter, without a backbone."""


class _VirtualLookUp(VirtualLayer):
    def _product(self, x: Tensor) -> Tensor:
        require_taken(x, self._source().name)
        like, adapter = self.weight_like, self._parameters.get("lora_A")
        if adapter is not None and adapter.dtype.itemsize < like.dtype.itemsize:  # as FSDP2's mixed precision makes it
            like = like.to(adapter.dtype)
        found: Tensor = generated_rows(x, like, *self._named())
        return found


class VirtualEmbedding(_VirtualLookUp, nn.Embedding):
    """``nn.Embedding`` without a backbone: the rows that are looked up are generated."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Args: input, integer indices of any shape. Returns: shape (*input.shape, embedding_dim)."""
        return self._product(input)


class VirtualAdaptedEmbedding(_VirtualLookUp, layers.AdaptedEmbedding):
    """``nn.Embedding`` with an adapter, without a backbone."""


class _VirtualConv(VirtualLayer):
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding_mode: Any
    _reversed_padding_repeated_twice: Any

    def _product(self, x: Tensor) -> Tensor:
        require_taken(x, self._source().name)
        dims = len(self.stride)
        if x.dim() == dims + 1:  # one input without a batch around it
            return self._product(x.unsqueeze(0)).squeeze(0)
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
            padding = (0,) * len(self.stride)
        found: Tensor = generated_convolution(
            _cast(x),
            *self._named(),
            self.stride,
            padding,
            self.dilation,
            self.groups,
            self.max_bytes,
        )
        return found


class _VirtualPlainConv(_VirtualConv):
    bias: Tensor | None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Args: input, shape (batch, C_in, ...) or (C_in, ...). Returns: shape (batch, C_out, ...) or (C_out, ...)."""
        out = self._product(input)
        return out if self.bias is None else out + self.bias.to(out.dtype).view(-1, *[1] * len(self.stride))


class VirtualConv1d(_VirtualPlainConv, nn.Conv1d):
    """``nn.Conv1d`` without a backbone."""


class VirtualConv2d(_VirtualPlainConv, nn.Conv2d):
    """``nn.Conv2d`` without a backbone."""


class VirtualAdaptedConv1d(_VirtualConv, layers.AdaptedConv1d):
    """``nn.Conv1d`` with an adapter, without a backbone."""


class VirtualAdaptedConv2d(_VirtualConv, layers.AdaptedConv2d):
    """``nn.Conv2d`` with an adapter, without a backbone."""
