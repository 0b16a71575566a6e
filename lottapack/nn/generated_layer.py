"""A layer with a generated backbone, whose ``weight`` is the adapted weight."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lottapack import rng
from lottapack.arch.noted import noted, notes
from lottapack.errors import PlacementError
from lottapack.format.names import BACKBONE, WEIGHT, leaf_prefix
from lottapack.nn.any_module import is_adapted, read_by_own_code
from lottapack.nn.generated import Generated, move_generated
from lottapack.nn.layer_weight import Adapter, LayerWeight, layer_weight, read_only, untraced
from lottapack.nn.recomputing import refuse_other_backbone
from lottapack.nn.reparametrising import AS_PARAMETER, refuse_parametrization, refuse_pruning
from lottapack.products.inputs import autocasts


class GeneratedLayer(nn.Module):
    """The base of layers with an adapter, heads tied to them, and layers without a backbone in memory.

    Attributes:
        backbone: the generated, frozen weight, without the adapter; a buffer, if it is in memory.
        weight: the adapted weight, _combine() of the backbone and the adapter; read-only.
        generated: the weight that is generated at each use, or None if it is in memory.
        fan_in_fan_out: whether the weight is stored as (in, out).
    """

    fan_in_fan_out: bool  # only with an adapter, or if true: see as_built.py
    _after_channels = 0
    """The number of an output's dimensions after its channels."""

    @property
    def generated(self) -> Generated | None:
        """What generates the weight at each use."""
        return noted(self).virtual.get(WEIGHT)

    if TYPE_CHECKING:
        weight: Tensor
        backbone: Tensor
    else:
        parametrizations = property(lambda self: self._read_parametrizations())

        @property
        def backbone(self) -> Tensor:
            """The buffer or parameter, or the weight that this call generates."""
            if self.generated is not None:
                return self.generated.weight()
            held = self._buffers.get(BACKBONE)
            held = self._parameters.get(BACKBONE) if held is None else held
            if held is None:
                raise AttributeError(BACKBONE)
            return held

        @property
        def weight(self) -> Tensor:
            """What the layer stands for."""
            if BACKBONE not in self._parameters and not torch.compiler.is_compiling() and from_a_plan():
                raise PlacementError(
                    f"RowwiseParallel cannot shard {self}: its backbone is not a parameter",
                    hint=AS_PARAMETER,
                )
            return self._read_weight()

    def _adapter(self) -> Adapter:
        """Return the adapter's parameters, in the order in which _combine() takes them."""
        return ()

    def _combine(self, backbone: Tensor, *adapter: Any) -> Tensor:  # noqa: ARG002 (for layers that have one)
        """Return the weight, with gradients for the adapter."""
        return backbone

    def _backbone_for(self, operand: Tensor) -> Tensor:
        """Return the backbone, in the dtype of the other operand if that is narrower.

        FSDP2's mixed precision converts parameters and inputs, but not buffers. Autocast converts by itself.
        """
        backbone, kind = self.backbone, operand.dtype
        own = backbone.dtype
        if kind == own or kind.itemsize >= own.itemsize or autocasts(operand.device.type):
            return backbone
        return backbone.to(kind)

    def _dense(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the stock layer's output for a weight in memory."""
        return F.linear(x, weight, bias)

    def _virtual(self, x: Tensor, generated: Generated) -> Tensor:
        """Return the stock layer's output, without bias, for a weight that is generated meanwhile."""
        return generated.product(x, bool(getattr(self, "fan_in_fan_out", False)))

    def _product(self, x: Tensor) -> Tensor:
        """Return the backbone's own product with an input, without bias."""
        if self.generated is not None:
            return self._virtual(x, self.generated)
        return self._dense(x, self._backbone_for(x), None)

    def _stock(self, x: Tensor) -> Tensor:
        """Return the output of the stock layer without an adapter."""
        bias: Any = self.bias
        if self.generated is None and bias is not None:
            backbone = self._backbone_for(x)
            if bias.dtype == backbone.dtype:
                return self._dense(x, backbone, bias)
        return self._biased(self._product(x))

    def _biased(self, out: Tensor) -> Tensor:
        bias: Any = self.bias
        if bias is None:
            return out
        if bias.dtype != out.dtype:
            bias = bias.to(out.dtype)
        shaped: Tensor = bias.view(-1, *[1] * self._after_channels) if self._after_channels else bias
        return out + shaped

    def extra_repr(self) -> str:
        """Return the stock layer's text, and how the weight is generated at each use, if it is."""
        generated = self.generated
        return super().extra_repr() if generated is None else f"{super().extra_repr()}, {generated.mode}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        move_generated(self, fn)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Register a sharded weight as the sharded backbone, since torch's tensor parallelism uses the stock name."""
        if name.endswith("_orig"):
            refuse_pruning(self, name, param)
        if isinstance(param, LayerWeight):
            raise read_only(self, f"it cannot become {name}, which pruning and similar tools need")
        sharded = name == "weight" and BACKBONE in self._parameters and hasattr(param, "device_mesh")
        super().register_parameter(BACKBONE if sharded else name, param)

    def __prepare_scriptable__(self) -> None:
        """Refuse torch.jit.script, which asks each module for what it compiles in its place."""
        raise untraced(self, "torch.jit.script cannot compile")

    def _read_weight(self) -> Tensor:
        refuse_other_backbone(self)
        adapter, generated = self._adapter(), self.generated
        if generated is not None:
            rows = 0 if adapter else 1  # a row of an adapted weight is not computed alone
            return layer_weight(self, self._combine, generated.part(rows), adapter, batch=rows)
        backbone = self.backbone
        if backbone.is_meta and isinstance(backbone, nn.Parameter):
            return backbone  # it has no values yet, and sharding code looks for a parameter here
        return layer_weight(self, self._combine, backbone, adapter)

    def _read_parametrizations(self) -> None:
        """Find nothing here, so that nn.Module looks among the children, where torch puts parametrizations."""
        refuse_parametrization(self)
        raise AttributeError

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse another weight. Tying a head to its embedding again has no effect."""
        if name != "weight":
            super().__setattr__(name, value)
        elif not (isinstance(value, LayerWeight) and [*map(id, value.adapter)] == [*map(id, self._adapter())]):
            raise read_only(self, f"a {type(value).__name__} cannot take its place")


def from_a_plan() -> bool:
    """Return whether a plan of torch's ``parallelize_module`` is among the nearest callers."""
    frame = sys._getframe(1).f_back
    for _ in range(3):
        if frame is not None and frame.f_globals.get("__name__") == "torch.distributed.tensor.parallel.style":
            return True
        frame = frame and frame.f_back
    return False


def held_as(module: nn.Module, leaf: str) -> str:
    """Return the name within its module of the buffer or parameter with the generated weight of ``leaf``."""
    if (leaf == WEIGHT and isinstance(module, GeneratedLayer)) or is_adapted(module, leaf):
        return leaf_prefix(leaf) + BACKBONE
    return leaf


def make_virtual(
    module: nn.Module, leaf: str, form: type[GeneratedLayer] | None, source: rng.Source, max_bytes: int = 0
) -> None:
    """Make a module generate a weight from ``source`` at use, in place, instead of a buffer.

    ``form``: the class of a layer whose product generates it, or None if the module's own code reads it.
    """
    held = held_as(module, leaf)
    weight = module._buffers.pop(held)
    assert weight is not None
    module._non_persistent_buffers_set.discard(held)
    record = notes(module)
    record.sources[leaf] = source
    record.virtual[leaf] = Generated.of(record.sources, leaf, weight, max_bytes)
    if form is None:
        read_by_own_code(module, leaf)
    else:
        # Swapping the class keeps the module's identity, its hooks and every reference to it.
        module.__class__ = form
