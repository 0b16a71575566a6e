"""transformers' ``Conv1D``, a linear layer whose weight is stored as (in, out), with a generated weight or an adapter.

This is a separate module because importing it imports transformers.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lottapack.nn.generated_layer import GeneratedLayer
from lottapack.nn.layers import LinearAdapter


class GeneratedConv1D(GeneratedLayer, Conv1D):  # type: ignore[misc]
    """transformers' ``Conv1D`` with a generated weight."""

    bias: nn.Parameter
    fan_in_fan_out = True

    def forward(self, x: Tensor) -> Tensor:
        """Args: x, shape (..., nx). Returns: shape (..., nf)."""
        return self._stock(x)

    def _dense(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if bias is None:
            return F.linear(x, weight.t())
        out: Tensor = torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight)
        return out.view(*x.shape[:-1], weight.shape[1])


class AdaptedConv1D(LinearAdapter, GeneratedConv1D):
    """transformers' ``Conv1D`` with an adapter."""

    def forward(self, x: Tensor) -> Tensor:
        """Args: x, shape (..., nx). Returns: shape (..., nf)."""
        return self._sum(x)


def forms() -> dict[str, Any]:
    """Return the arguments of the layer's Row."""
    return {"stock": Conv1D, "adapted": AdaptedConv1D, "generated": GeneratedConv1D}
