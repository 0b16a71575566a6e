"""The layers whose product with the backbone lottapack computes itself: one row for each kind of layer.

A row of another library's class is in its own module, which imports that library. It is found by the name
of the class, so that the library is only imported for its own layers.
"""

import importlib
from dataclasses import dataclass
from typing import Final

from torch import nn

from lottapack.nn import layers
from lottapack.nn.generated_layer import GeneratedLayer
from lottapack.nn.kinds import changes_itself
from lottapack.nn.tied_head import TiedHead


@dataclass(frozen=True, slots=True)
class Row:
    """A kind of layer.

    Attributes:
        stock: exactly this class, since a subclass may use its weight differently.
        adapted: its form with an adapter.
        generated: its form without an adapter whose weight need not be in memory, if it has one.
        frozen: its form with a generated weight in memory, if it needs one.
    """

    stock: type[nn.Module]
    adapted: type[layers.AdapterLayer]
    generated: type[GeneratedLayer] | None = None
    frozen: type[nn.Module] | None = None


_ROWS: Final = (
    Row(nn.Linear, layers.AdaptedLinear, layers.GeneratedLinear),
    Row(nn.Conv1d, layers.AdaptedConv1d, layers.GeneratedConv1d),
    Row(nn.Conv2d, layers.AdaptedConv2d, layers.GeneratedConv2d),
    Row(nn.Embedding, layers.AdaptedEmbedding, layers.GeneratedEmbedding),
)
_BY_CLASS: Final = {row.stock: row for row in _ROWS}
_ELSEWHERE: Final = {
    ("transformers.pytorch_utils", "Conv1D"): "lottapack.nn.conv1d",
    ("torch_geometric.nn.dense.linear", "Linear"): "lottapack.nn.graph_linear",
}
"""For classes of other libraries, the module whose ``forms()`` returns the arguments of their row."""


def row_of(module: nn.Module) -> Row | None:
    """Return the row of a layer whose class is exactly a stock class."""
    own = type(module)
    found = _BY_CLASS.get(own)
    if found is None and (name := (own.__module__, own.__name__)) in _ELSEWHERE:
        found = _BY_CLASS[own] = Row(**importlib.import_module(_ELSEWHERE[name]).forms())
    return found


def virtual_class(module: nn.Module) -> type[GeneratedLayer] | None:
    """Return the class of a layer whose weight is generated at each use, or None if it must be in memory."""
    if changes_itself(module):
        return None
    if type(module) is TiedHead:
        return TiedHead
    row_of(module)  # which may add a row
    for row in _BY_CLASS.values():
        if row.generated is not None and type(module) in (row.stock, row.frozen, row.adapted):
            return row.adapted if type(module) is row.adapted else row.generated
    return None
