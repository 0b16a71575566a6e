"""The adapted form of transformers' ``Conv1D``, a linear layer whose weight is stored as (in, out).

A module of its own, because importing it imports transformers.
"""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lottapack.nn.layers import AdapterLayer


class AdaptedConv1D(AdapterLayer, Conv1D):  # type: ignore[misc]
    """transformers' ``Conv1D`` with an adapter; ``fan_in_fan_out`` is true."""

    bias: nn.Parameter

    def forward(self, x: Tensor) -> Tensor:
        """Args: x, shape (..., nx). Returns: shape (..., nf)."""
        low_rank = F.linear(F.linear(self._dropped(x), self.lora_A), self.lora_B)
        out = self._sum(self._product(x), low_rank)
        return out + self.bias.to(out.dtype)

    def _product(self, x: Tensor) -> Tensor:
        return F.linear(x, self._backbone_for(x).t())
