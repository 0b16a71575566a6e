"""The layers whose product with the backbone lottapack computes itself: one row for each kind of layer.

A row of another library's class is in its own module, which imports that library. It is found by the name
of the class, so that the library is only imported for its own layers.
"""

import importlib
from dataclasses import dataclass
from typing import Final

from torch import nn

from lottapack.nn.layers import AdaptedConv1d, AdaptedConv2d, AdaptedEmbedding, AdaptedLinear, AdapterLayer
from lottapack.nn.tied_head import TiedHead
from lottapack.nn.virtual import (
    VirtualAdaptedConv1d,
    VirtualAdaptedConv2d,
    VirtualAdaptedEmbedding,
    VirtualAdaptedLinear,
    VirtualConv1d,
    VirtualConv2d,
    VirtualEmbedding,
    VirtualLayer,
    VirtualLinear,
    VirtualTiedHead,
)


@dataclass(frozen=True, slots=True)
class Row:
    """A kind of layer.

    Attributes:
        stock: exactly this class, since a subclass may use its weight differently.
        adapted: its form with an adapter.
        frozen: its form with a generated weight, if it needs one.
        virtual: its forms without a weight in memory, by the form with one.
    """

    stock: type[nn.Module]
    adapted: type[AdapterLayer]
    virtual: dict[type[nn.Module], type[VirtualLayer]]
    frozen: type[nn.Module] | None = None


_ROWS: Final = (
    Row(nn.Linear, AdaptedLinear, {nn.Linear: VirtualLinear, AdaptedLinear: VirtualAdaptedLinear}),
    Row(nn.Conv1d, AdaptedConv1d, {nn.Conv1d: VirtualConv1d, AdaptedConv1d: VirtualAdaptedConv1d}),
    Row(nn.Conv2d, AdaptedConv2d, {nn.Conv2d: VirtualConv2d, AdaptedConv2d: VirtualAdaptedConv2d}),
    Row(
        nn.Embedding,
        AdaptedEmbedding,
        {nn.Embedding: VirtualEmbedding, AdaptedEmbedding: VirtualAdaptedEmbedding},
    ),
)
_BY_CLASS: Final = {row.stock: row for row in _ROWS}
_ELSEWHERE: Final = {
    ("transformers.pytorch_utils", "Conv1D"): "lottapack.nn.virtual_conv1d",
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


def virtual_class(module: nn.Module) -> type[VirtualLayer] | None:
    """Return the class of a layer's form without a backbone, or None."""
    if isinstance(module, nn.Embedding) and module.max_norm is not None:
        return None  # it would shrink rows in place
    if type(module) is TiedHead:
        return VirtualTiedHead
    row_of(module)  # which may add a row
    forms = (row.virtual.get(type(module)) for row in _BY_CLASS.values())
    return next((form for form in forms if form is not None), None)
