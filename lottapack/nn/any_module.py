"""Adapted and virtual weights in a module of any class, whose own code reads them under the parameter's name.

The module gets a subclass of its own class, with a property for each such parameter.
The generated weight, unless it is virtual, and the adapter are buffers and parameters of the module. For
``gate_up_proj`` they are called ``gate_up_proj_backbone``, ``gate_up_proj_lora_A`` etc., for ``weight`` ``backbone``
and ``lora_A``. Decisions 0047 and 0065.
"""

import copyreg
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lottapack.arch.noted import noted, notes
from lottapack.errors import UnsupportedError
from lottapack.format.factors import adapter_shapes, batch_dims_of
from lottapack.format.names import ADAPTER_PARTS, BACKBONE, leaf_prefix
from lottapack.format.recipe import AdaptedRecipe, scaling_factor
from lottapack.nn.generated import Part, generated_of, is_recorded, move_generated
from lottapack.nn.layer_weight import Adapter, LayerWeight, layer_weight, read_only, untraced
from lottapack.nn.recomputing import refuse_other_backbone
from lottapack.nn.reparametrising import refuse_parametrization, refuse_pruning
from lottapack.weights.merge import combined, merged


@dataclass(frozen=True, slots=True)
class Numbers:
    """The settings of an adapter, besides its tensors."""

    rank: int
    scaling: float
    fan_in_fan_out: bool
    batch_dims: int

    def combine(self, backbone: Tensor, *adapter: Any) -> Tensor:
        """Return the weight, with gradients for the adapter."""
        return combined(backbone, *adapter, scaling=self.scaling, fan_in_fan_out=self.fan_in_fan_out)


class AdaptedModule(nn.Module):
    """A module of any class, some of whose parameters are computed when its code reads them.

    They are generated, and have an adapter, are virtual, or both.
    """

    _lottapack_base: type[nn.Module]
    _lottapack_leaves: frozenset[str]

    if not TYPE_CHECKING:
        parametrizations = property(lambda self: self._read_parametrizations())

    def _read_parametrizations(self) -> None:
        """Find nothing here, so that nn.Module looks among the children, where torch puts parametrizations."""
        refuse_parametrization(self)
        raise AttributeError

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to replace such a weight."""
        if name in self._lottapack_leaves:
            raise read_only(self, f"a {type(value).__name__} cannot take its place", name)
        super().__setattr__(name, value)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Refuse to replace such a weight, also by pruning and similar tools."""
        refuse_pruning(self, name, param)
        if name in self._lottapack_leaves or isinstance(param, LayerWeight):
            raise read_only(self, f"it cannot become {name}", name if name in self._lottapack_leaves else None)
        super().register_parameter(name, param)

    def __prepare_scriptable__(self) -> None:
        """Refuse torch.jit.script, which asks each module for what it compiles in its place."""
        raise untraced(self, "torch.jit.script cannot compile")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        move_generated(self, fn)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """Return the text of the module's class, rank, scaling and beta of adapters, and what is generated at use."""
        own = super().extra_repr()
        told = [own] if own else []
        for leaf, numbers in noted(self).adapters.items():
            beta = "1" if self._parameters.get(f"{leaf_prefix(leaf)}beta") is None else "learned"
            told.append(f"{leaf}: rank={numbers.rank}, scaling={numbers.scaling:g}, beta={beta}")
        told += [f"{leaf}: {generated.mode}" for leaf, generated in noted(self).virtual.items()]
        return ", ".join(told)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Store the module's original class in copies and pickles, and build this one from it."""
        reduced: Any = super().__reduce_ex__(max(int(protocol), 2))
        made, arguments, *rest = reduced
        if made is not copyreg.__newobj__ or arguments[0] is not type(self):  # type: ignore[attr-defined]
            raise UnsupportedError(
                f"a {self._lottapack_base.__name__} with an adapter or a virtual weight cannot be copied or pickled: "
                "its class defines its own __reduce_ex__",
                hint="Save its state_dict, or pack it.",
            )
        return _new, (self._lottapack_base, self._lottapack_leaves, *arguments[1:]), *rest


class AdaptedRecurrent(AdaptedModule):
    """A recurrent layer of torch.nn, which keeps a list of its weights beside them.

    The list is made at each forward pass, with weights in memory, since a recurrent layer reads each weight many times.
    If a weight is virtual, the backward pass repeats the forward pass, so that nothing keeps the weight in between.
    """

    def forward(self, *args: Any, **options: Any) -> Any:
        """Return what the layer's class returns for the same arguments."""
        if noted(self).virtual and torch.is_grad_enabled() and not is_recorded():
            return checkpoint(super().forward, *args, use_reentrant=False, **options)
        return super().forward(*args, **options)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse another weight, and set all other attributes as usual, since no list of weights is kept."""
        if name in self._lottapack_leaves:
            super().__setattr__(name, value)
        nn.Module.__setattr__(self, name, value)

    def _init_flat_weights(self) -> None:
        """Do nothing: no list is kept."""

    def _update_flat_weights(self) -> None:
        """Do nothing: no list is kept."""

    def flatten_parameters(self) -> None:
        """Do nothing: the weights are made at each forward pass."""

    def _get_flat_weights(self) -> list[Any]:
        names: list[str] = self.__dict__["_flat_weights_names"]
        return [_in_memory(self, name) for name in names]

    def _set_flat_weights(self, _: Any) -> None:
        """Do nothing: no list is kept."""

    _flat_weights = property(_get_flat_weights, _set_flat_weights)


def _in_memory(module: nn.Module, name: str) -> Any:
    numbers = noted(module).adapters.get(name)
    if numbers is None and generated_of(module, name) is None:
        return getattr(module, name)
    refuse_other_backbone(module)
    backbone = _tensor(_backbone(module, name))
    return backbone if numbers is None else numbers.combine(backbone, *adapter_of(module, name))


def _new(base: type[nn.Module], leaves: frozenset[str], *arguments: Any) -> nn.Module:
    form = form_of(base, leaves)
    return form.__new__(form, *arguments)


_forms: dict[tuple[type[nn.Module], frozenset[str]], type[AdaptedModule]] = {}


def form_of(base: type[nn.Module], leaves: frozenset[str]) -> type[AdaptedModule]:
    """Return the subclass of ``base``, with the same name, in which these parameters are properties. It is cached.

    Raises TypeError if ``base`` cannot be extended.
    """
    found = _forms.get((base, leaves))
    return _forms.setdefault((base, leaves), _made(base, leaves)) if found is None else found


def _made(base: type[nn.Module], leaves: frozenset[str]) -> type[AdaptedModule]:
    kind = AdaptedRecurrent if issubclass(base, nn.RNNBase) else AdaptedModule
    space: dict[str, Any] = {leaf: property(_reader(leaf)) for leaf in leaves}
    space |= {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    space |= {"_lottapack_base": base, "_lottapack_leaves": leaves}
    return type(base.__name__, (kind, base), space)


def _reader(leaf: str) -> Callable[[AdaptedModule], Tensor]:
    return lambda module: effective(module, leaf)


def read_by_own_code(module: nn.Module, leaf: str) -> None:
    """Change the class of a module in place, so that its code reads a weight that is computed.

    Raises TypeError for a class that cannot be extended.
    """
    base, leaves = type(module), frozenset({leaf})
    if isinstance(module, AdaptedModule):
        base, leaves = module._lottapack_base, module._lottapack_leaves | leaves
    module.__class__ = form_of(base, leaves)
    module.__dict__.pop("_flat_weights", None)


def adapt(module: nn.Module, leaf: str, entry: AdaptedRecipe, persistent: bool) -> None:
    """Change a module in place so that a parameter has an adapter, which is not initialised.

    The weight becomes a buffer; ``persistent``: the state_dict contains it. Raises TypeError for a class that cannot be
    extended.
    """
    read_by_own_code(module, leaf)
    weight = module._parameters.pop(leaf)
    assert weight is not None
    scaling = scaling_factor(entry.alpha, entry.rank, entry.scaling)
    numbers = Numbers(entry.rank, scaling, entry.fan_in_fan_out, batch_dims_of(entry))
    notes(module).adapters[leaf] = numbers
    prefix = leaf_prefix(leaf)
    module.register_buffer(prefix + BACKBONE, weight.detach(), persistent=persistent)
    for part, shape in adapter_shapes(entry).items():
        trains = part not in entry.frozen
        new = nn.Parameter(weight.detach().new_empty(shape), trains) if part in entry.parts else None
        module.register_parameter(prefix + part, new)


def taken_from(module: nn.Module, leaf: str) -> str | None:
    """Return an attribute of a module that the adapter of a parameter would replace, or None."""
    names = (leaf_prefix(leaf) + part for part in (*ADAPTER_PARTS, BACKBONE))
    return next((name for name in names if hasattr(module, name)), None)


def is_adapted(module: nn.Module, leaf: str) -> bool:
    """Return whether adapt() gave a parameter of a module an adapter."""
    return leaf in noted(module).adapters


def numbers_of(module: nn.Module, leaf: str) -> Numbers | None:
    """Return the numbers of a parameter's adapter, if it has one in this way."""
    return noted(module).adapters.get(leaf)


def adapter_of(module: nn.Module, leaf: str) -> Adapter:
    """Return the tensors of an adapter, in the order of ADAPTER_PARTS: parameters, or what torch computes in place."""
    prefix = leaf_prefix(leaf)
    return tuple(getattr(module, prefix + part, None) for part in ADAPTER_PARTS)


def _backbone(module: nn.Module, leaf: str, batch: int = 0) -> Tensor | Part:
    generated = generated_of(module, leaf)
    if generated is not None:
        return generated.part(batch)
    name = leaf_prefix(leaf) + BACKBONE
    found = module._parameters.get(name, module._buffers.get(name))
    if found is None:
        raise AttributeError(name)
    return found


def _tensor(backbone: Tensor | Part) -> Tensor:
    return backbone if isinstance(backbone, Tensor) else backbone.tensor()


def _same(backbone: Tensor) -> Tensor:
    """Return the weight of a parameter without an adapter."""
    return backbone


def effective(module: nn.Module, leaf: str) -> Tensor:
    """Return the weight of a parameter, with its adapter if it has one, and with gradients for that."""
    refuse_other_backbone(module)
    numbers = noted(module).adapters.get(leaf)
    if numbers is None:
        return layer_weight(module, _same, _backbone(module, leaf, 1), (), leaf=leaf, batch=1)
    backbone = _backbone(module, leaf, numbers.batch_dims)
    return layer_weight(
        module, numbers.combine, backbone, adapter_of(module, leaf), leaf=leaf, batch=numbers.batch_dims
    )


def merged_parameter(module: nn.Module, leaf: str) -> Tensor:
    """Return the merged weight of a parameter with an adapter, in its shape and dtype (spec: merge)."""
    numbers = noted(module).adapters[leaf]
    return merged(
        _tensor(_backbone(module, leaf)),
        *adapter_of(module, leaf),
        scaling=numbers.scaling,
        fan_in_fan_out=numbers.fan_in_fan_out,
    )
