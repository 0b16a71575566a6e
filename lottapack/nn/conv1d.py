"""The adapted form of transformers' ``Conv1D``, a linear layer whose weight is stored as (in, out).

This is a separate module because importing it imports transformers.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lottapack.nn.layers import AdapterLayer


class AdaptedConv1D(AdapterLayer, Conv1D):  # type: ignore[misc]
    """transformers' ``Conv1D`` with an adapter; ``fan_in_fan_out`` is true."""

    bias: nn.Parameter

    def forward(self, x: Tensor) -> Tensor:
        """Args: x, shape (..., nx). Returns: shape (..., nf)."""
        return self._sum(x)

    def _product(self, x: Tensor) -> Tensor:
        return F.linear(x, self._backbone_for(x).t())

    def _stock(self, x: Tensor) -> Tensor:
        backbone = self._backbone_for(x)
        if self.bias.dtype != backbone.dtype:
            return super()._stock(x)
        out: Tensor = torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), backbone)
        return out.view(*x.shape[:-1], backbone.shape[1])
