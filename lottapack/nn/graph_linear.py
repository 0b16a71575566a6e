"""The forms of torch_geometric's ``Linear``: adapted, frozen with a generated weight, and virtual.

This is a separate module because it imports torch_geometric. The library's class writes its own state_dict,
which would contain the frozen weight and no adapter; the classes here write the default state_dict.
"""

from typing import Any

from torch import Tensor, nn
from torch_geometric.nn.dense.linear import Linear

from lottapack.nn.generated_layer import GeneratedLayer
from lottapack.nn.layers import LinearAdapter


class SeededGraphLinear(Linear):  # type: ignore[misc]
    """torch_geometric's ``Linear`` with a frozen weight that checkpoints do not contain."""

    _save_to_state_dict = nn.Module._save_to_state_dict
    _load_from_state_dict = nn.Module._load_from_state_dict


class GeneratedGraphLinear(GeneratedLayer, SeededGraphLinear):
    """torch_geometric's ``Linear`` with a generated weight."""

    bias: nn.Parameter | None

    def forward(self, x: Tensor) -> Tensor:
        """Args: x, shape (..., in_channels). Returns: shape (..., out_channels)."""
        return self._stock(x)


class AdaptedGraphLinear(LinearAdapter, Linear):  # type: ignore[misc]
    """torch_geometric's ``Linear`` with an adapter."""

    bias: nn.Parameter | None
    _save_to_state_dict = nn.Module._save_to_state_dict
    _load_from_state_dict = nn.Module._load_from_state_dict

    def forward(self, x: Tensor) -> Tensor:
        """Args: x, shape (..., in_channels). Returns: shape (..., out_channels)."""
        return self._sum(x)


def forms() -> dict[str, Any]:
    """Return the arguments of the layer's Row."""
    return {
        "stock": Linear,
        "adapted": AdaptedGraphLinear,
        "generated": GeneratedGraphLinear,
        "frozen": SeededGraphLinear,
    }
