"""Which parameters are weights of a linear computation, and how each of them is stored.

Any such parameter can have an adapter: the module's own code reads the adapted weight.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from lottapack.format import dtypes


@dataclass(frozen=True, slots=True)
class Kind:
    """How a weight is stored (spec: descriptor, section 4).

    Attributes:
        fan_in_fan_out: whether each matrix is (in, out, ...) and not (out, in, ...).
        batch_dims: how many leading dimensions count matrices.
        by_default: whether it gets an adapter by default, without targets.
    """

    fan_in_fan_out: bool = False
    batch_dims: int = 0
    by_default: bool = True


_OUTPUTS_FIRST, _INPUTS_FIRST = Kind(), Kind(fan_in_fan_out=True)
_LOOKED_UP = Kind(fan_in_fan_out=True, by_default=False)

_OF_WEIGHT: Final[tuple[tuple[type[nn.Module], int, Kind], ...]] = (
    (nn.Embedding, 2, _LOOKED_UP),
    (nn.EmbeddingBag, 2, _LOOKED_UP),
    (nn.Linear, 2, _OUTPUTS_FIRST),
    (nn.Bilinear, 3, _OUTPUTS_FIRST),
    (nn.Conv1d, 3, _OUTPUTS_FIRST),
    (nn.Conv2d, 4, _OUTPUTS_FIRST),
    (nn.Conv3d, 5, _OUTPUTS_FIRST),
    (nn.ConvTranspose1d, 3, _INPUTS_FIRST),
    (nn.ConvTranspose2d, 4, _INPUTS_FIRST),
    (nn.ConvTranspose3d, 5, _INPUTS_FIRST),
)
"""By class, including subclasses: the dimensions of its ``weight``, and how it is stored."""

_ELSEWHERE: Final = {
    ("transformers.pytorch_utils", "Conv1D"): _INPUTS_FIRST,
    ("torch_geometric.nn.dense.linear", "Linear"): _OUTPUTS_FIRST,
}
"""The same for weights of two dimensions in classes of other libraries, which need not be imported."""

_ATTENTION: Final = frozenset({"in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"})
_GATES, _DOWN = "gate_up_proj", "down_proj"
"""The names in transformers of the weights of all experts of a layer."""


def kind_of(module: nn.Module, leaf: str, tensor: Tensor) -> Kind | None:
    """Return how a parameter is stored as a weight, or None if it is not a weight or cannot have an adapter.

    Known weights are parameters called ``weight`` with two dimensions, those of experts, and those of layers of
    torch.nn. Any other parameter counts as matrices in its last two dimensions, and gets an adapter only if
    `targets` names it.
    """
    dims = tensor.dim()
    if dims < 2:
        return None
    known = _of_weight(module, dims) if leaf == "weight" else _of_other(module, leaf, dims)
    if known is not None:
        return known
    if dtypes.dtype_name(tensor.dtype) not in dtypes.GENERATED or not tensor.numel():
        return None
    by_default = leaf == "weight" and dims == 2 and "Embed" not in type(module).__name__
    return Kind(batch_dims=dims - 2, by_default=by_default)


def stood_for(module: nn.Module, name: str, leaf: str) -> tuple[str, str]:
    """Return the name of a module and of a weight of it that a parameter is computed into: mostly its own.

    torch holds what is behind a parametrized ``weight`` as ``parametrizations.weight.original``, or as ``original0``
    and ``original1``. In weight_norm, the latter has the weight's shape.
    """
    if isinstance(module, ParametrizationList) and leaf in ("original", "original1"):
        owner, _, weight = f".{name}".rpartition(".parametrizations.")
        return owner.removeprefix("."), weight
    if leaf == "weight_v" and "weight_g" in module._parameters:  # the former weight_norm
        return name, "weight"
    return name, leaf


def inputs_first(module: nn.Module) -> bool:
    """Return whether a layer's weight is stored as (in, out, ...), as in embeddings and transformers' Conv1D."""
    found = next((kind for classes, _, kind in _OF_WEIGHT if isinstance(module, classes)), None) or _elsewhere(module)
    return found is not None and found.fan_in_fan_out


def _of_weight(module: nn.Module, dims: int) -> Kind | None:
    for classes, due, kind in _OF_WEIGHT:
        if isinstance(module, classes):
            return kind if dims == due else None
    return _elsewhere(module) if dims == 2 else _of_experts(module, "weight", dims)


def _elsewhere(module: nn.Module) -> Kind | None:
    found = ((cls.__module__, cls.__name__) for cls in type(module).__mro__)
    return next((_ELSEWHERE[name] for name in found if name in _ELSEWHERE), None)


def _of_other(module: nn.Module, leaf: str, dims: int) -> Kind | None:
    recurrent = isinstance(module, nn.RNNBase | nn.RNNCellBase) and leaf.startswith("weight_")
    if dims == 2 and (recurrent or (isinstance(module, nn.MultiheadAttention) and leaf in _ATTENTION)):
        return _OUTPUTS_FIRST
    return _of_experts(module, leaf, dims)


def _of_experts(module: nn.Module, leaf: str, dims: int) -> Kind | None:
    if dims != 3 or not (leaf in (_GATES, _DOWN) or "Expert" in type(module).__name__):
        return None
    return Kind(fan_in_fan_out=experts_inputs_first(module, leaf), batch_dims=1)


def experts_inputs_first(module: nn.Module, leaf: str) -> bool:
    """Return whether experts are stored as (experts, in, out), from both weights' shapes or a flag of the library."""
    gates, down = module._parameters.get(_GATES), module._parameters.get(_DOWN)
    if leaf not in (_GATES, _DOWN) or gates is None or down is None or (gates.dim(), down.dim()) != (3, 3):
        return bool(getattr(module, "is_transposed", False))
    (_, first, second), (_, third, fourth) = gates.shape, down.shape
    outputs_first = third == second and first in (fourth, 2 * fourth)
    inputs_first = fourth == first and second in (third, 2 * third)
    return inputs_first and (not outputs_first or bool(getattr(module, "is_transposed", False)))


def takes_any_form(module: nn.Module) -> bool:
    """Return whether a module's class can be extended so that its own code reads adapted weights."""
    own = type(module)
    return (
        own._save_to_state_dict is nn.Module._save_to_state_dict
        and "parametrizations" not in module._modules
        and not isinstance(module, torch.jit.ScriptModule)
        and type(own) is type
    )


def changes_itself(module: nn.Module) -> bool:
    """Return whether a forward pass may shrink the module's weight in place, as an embedding's with max_norm does.

    A weight that follows from a seed and an adapter cannot be changed.
    """
    return getattr(module, "max_norm", None) is not None
