"""transformers' ``Conv1D``, whose weight is stored as (in, out), without a backbone.

This is a separate module because it imports transformers.
"""

from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lottapack.nn.conv1d import AdaptedConv1D
from lottapack.nn.virtual import VirtualLayer, joined


class VirtualConv1D(VirtualLayer, Conv1D):  # type: ignore[misc]
    """transformers' ``Conv1D`` without a backbone."""

    bias: nn.Parameter
    fan_in_fan_out = True

    def forward(self, x: Tensor) -> Tensor:
        """Args: x, shape (..., nx). Returns: shape (..., nf)."""
        out = self._product(x)
        return out + self.bias.to(out.dtype)


class VirtualAdaptedConv1D(VirtualLayer, AdaptedConv1D):
    """transformers' ``Conv1D`` with an adapter, without a backbone."""

    def forward(self, x: Tensor) -> Tensor:
        """Args: x, shape (..., nx). Returns: shape (..., nf)."""
        out = joined(self, x)
        return super().forward(x) if out is None else out + self.bias.to(out.dtype)


def forms() -> dict[str, Any]:
    """Return the arguments of the layer's Row."""
    virtual = {Conv1D: VirtualConv1D, AdaptedConv1D: VirtualAdaptedConv1D}
    return {"stock": Conv1D, "adapted": AdaptedConv1D, "virtual": virtual}
