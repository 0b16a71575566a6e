"""A layer with a generated backbone, whose ``weight`` is the adapted weight."""

import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lottapack.errors import PlacementError
from lottapack.format.names import BACKBONE, WEIGHT, leaf_prefix
from lottapack.nn.any_module import is_adapted
from lottapack.nn.layer_weight import Adapter, LayerWeight, layer_weight, read_only
from lottapack.nn.recomputing import refuse_other_backbone
from lottapack.nn.reparametrising import refuse_parametrization, refuse_pruning
from lottapack.products.inputs import autocasts


class GeneratedLayer(nn.Module):
    """The base of layers with an adapter, heads tied to them, and layers without a backbone in memory.

    Attributes:
        backbone: the generated, frozen weight, without the adapter; a buffer, if it is in memory.
        weight: the adapted weight, _combine() of the backbone and the adapter; read-only.
    """

    backbone: Tensor

    if TYPE_CHECKING:
        weight: Tensor
    else:
        parametrizations = property(lambda self: self._read_parametrizations())

        @property
        def weight(self) -> Tensor:
            """What the layer stands for."""
            if BACKBONE not in self._parameters and not torch.compiler.is_compiling() and from_a_plan():
                raise PlacementError(
                    f"RowwiseParallel cannot shard {self}: its backbone is not a parameter",
                    hint='Load the model with backbone="parameter", or with merge=True.',
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

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Register a sharded weight as the sharded backbone, since torch's tensor parallelism uses the stock name."""
        if name.endswith("_orig"):
            refuse_pruning(self, name, param)
        if isinstance(param, LayerWeight):
            raise read_only(self, f"it cannot become {name}, which pruning and similar tools need")
        sharded = name == "weight" and BACKBONE in self._parameters and hasattr(param, "device_mesh")
        super().register_parameter(BACKBONE if sharded else name, param)

    def _read_weight(self) -> Tensor:
        refuse_other_backbone(self)
        backbone = self.backbone
        if backbone.is_meta and isinstance(backbone, nn.Parameter):
            return backbone  # it has no values yet, and sharding code looks for a parameter here
        return layer_weight(self, self._combine, backbone, backbone.device, backbone, self._adapter())

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
