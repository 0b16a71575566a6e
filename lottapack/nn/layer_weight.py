"""The ``weight`` of a layer with an adapter, for code that reads it instead of calling the layer.

torch's fast paths, Mamba, and attention layers that call ``torch.nn.functional`` read a child's ``weight``. They get
the adapted weight, computed when an operation uses it. Decision 0037.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.fx._symbolic_trace import is_fx_symbolic_tracing
from torch.utils._pytree import tree_map_only

from lottapack.arch.noted import noted
from lottapack.errors import ScaffoldError, UnsupportedError
from lottapack.format.descriptor import FACTORS
from lottapack.format.names import ADAPTER_PARTS
from lottapack.nn.generated import Part, is_recorded

Adapter = tuple[Tensor | None, ...]
"""The parameters of an adapter, in the order in which its layer combines them with the backbone."""

Combine = Callable[..., Tensor]
"""Computes the weight from the backbone and the adapter, with torch operations, so that gradients reach the adapter."""

OWN_DIMS: Final = tuple(2 if part in FACTORS else 1 for part in ADAPTER_PARTS)
"""The dimensions of an adapter's tensors, in the order of ADAPTER_PARTS, for one matrix."""

_READS_MEMORY: Final = frozenset(
    getattr(Tensor, name)
    for name in (
        *("__array__", "__deepcopy__", "__dlpack__", "__reduce_ex__", "numpy", "storage", "tolist", "untyped_storage"),
    )
)
_SETTERS: Final = {getattr(Tensor, name).__set__: name for name in ("data", "grad", "requires_grad")}
_WRITES: Final = _SETTERS | {
    getattr(Tensor, name): name
    for name in ("__setitem__", "register_hook", "requires_grad_", "retain_grad", "share_memory_")
}
_GRAD: Final = getattr(Tensor, "grad").__get__  # noqa: B009 (to mypy it is a tensor)


_AT_ONCE: Final = 1 << 25
"""The number of elements of a batch of virtual matrices that are computed at a time."""

_aten: Final = torch.ops.aten
_ALONG: Final = frozenset(
    {_aten.select.int, _aten.slice.Tensor, _aten.unbind.int, _aten.split.Tensor, _aten.split_with_sizes.default}
)
"""Views that take a part of one dimension."""
_GROUPED_MM: Final = getattr(getattr(_aten, "_grouped_mm", None), "default", None)


@dataclass(frozen=True, slots=True, eq=False)
class Formula:
    """What a weight is computed from.

    Attributes:
        layer: the layer whose weight it is.
        leaf: the name of the weight in that layer.
        combine: computes it.
        backbone: the frozen weight, in memory or not.
        adapter: its parameters; none for a weight that has no adapter.
        batch: the number of leading dimensions of the backbone, and of all else but what serves all matrices, that
            count matrices. An index picks some of these, and no others are computed.
    """

    layer: nn.Module
    leaf: str
    combine: Combine
    backbone: Tensor | Part
    adapter: Adapter
    batch: int

    @property
    def held(self) -> Tensor | None:
        """The backbone, if it is in memory."""
        return self.backbone if isinstance(self.backbone, Tensor) else None

    def __getitem__(self, index: Any) -> "Formula":
        """Return the formula of the matrices at an index of the first dimension."""
        some = self.backbone[index]
        own = zip(self.adapter, OWN_DIMS, strict=False)  # without an adapter there is nothing to pick from
        adapter = tuple(part if part is None or part.dim() == dims else part[index] for part, dims in own)
        batch = some.dim() - self.backbone.dim() + self.batch
        return replace(self, backbone=some, adapter=adapter, batch=batch)

    def pieces(self) -> Iterator[slice]:
        """Yield the matrices of the first dimension, as many as are computed at a time: all, if they are in memory."""
        count = self.backbone.shape[0] if self.batch else 1
        alone = self.batch and self.adapter and self.held is None
        step = max(1, _AT_ONCE // max(1, prod(self.backbone.shape[1:]))) if alone else max(1, count)
        for first in range(0, count, step):
            yield slice(first, first + step)

    def value(self, *adapter: Tensor | None) -> Tensor:
        """Return the weight, computed from the backbone and these tensors of the adapter."""
        return self.combine(self.backbone.tensor() if isinstance(self.backbone, Part) else self.backbone, *adapter)

    def computed(self) -> Tensor:
        """Return the weight."""
        pieces = list(self.pieces())
        if len(pieces) < 2:
            return self.value(*self.adapter)
        out = torch.empty(self.backbone.shape, dtype=self.backbone.dtype, device=self.backbone.device)
        for piece in pieces:
            out[piece] = self[piece].computed()
        return out

    def weight(self) -> Tensor:
        """Return the weight with its history, computed when it is used."""
        parts = self.held, *self.adapter
        if _recorded(self.layer) or any(type(part) not in _PLAIN for part in parts):
            return self.value(*self.adapter)
        if torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in self.adapter):
            found: Tensor = _History.apply(self, *parts)  # type: ignore[no-untyped-call]
            return found
        return self.shell()

    def shell(self) -> "LayerWeight":
        """Return the weight without history, computed when it is used."""
        versions = self._versions()

        def check() -> None:
            if versions != self._versions() and torch._C._current_graph_task_id() != -1:
                raise RuntimeError(
                    f"a backward pass needs the weight of {name_of(self.layer)} as it was in the forward pass, and its "
                    "adapter or backbone was changed in place since then"
                )

        def compute() -> Tensor:
            check()
            return self.computed()

        def part(index: Any) -> Tensor:
            check()
            return self[index].computed()

        like = torch.empty(self.backbone.shape, dtype=self.backbone.dtype, device="meta")
        made: LayerWeight = LayerWeight(like, self, compute, part if self.batch else None)
        made._picks = self.batch > 0
        return made

    def _versions(self) -> list[int]:
        parts = self.held, *self.adapter
        return [part._version for part in parts if part is not None and not part.is_inference()]


class LayerWeight(Tensor):
    """A tensor without memory. It has shape, dtype and device, and computes its values when an operation needs them.

    torch's fast paths are not used, as for every tensor type that overrides operations.

    Attributes:
        formula: what it is computed from, or what the weight is computed from that it is a view of.
    """

    formula: Formula
    _compute: Callable[[], Tensor]
    _part: Callable[[Any], Tensor] | None
    _picks: bool
    _given_out: Tensor

    @staticmethod
    def __new__(
        cls,
        like: Tensor,
        formula: Formula,
        compute: Callable[[], Tensor],
        part: Callable[[Any], Tensor] | None = None,
    ) -> Any:
        """Create the tensor.

        Args:
            cls: this class.
            like: a tensor with the shape, strides and dtype.
            formula: as in the class.
            compute: returns the values.
            part: returns the values at an index of the first dimension, if these can be computed alone.
        """
        shell = Tensor._make_wrapper_subclass(
            cls, like.shape, like.stride(), like.storage_offset(), dtype=like.dtype, device=formula.backbone.device
        )
        # Native code that asks for the memory gets an error instead of address 0.
        torch._C._set_throw_on_mutable_data_ptr(shell)
        shell.formula, shell._compute, shell._part, shell._picks = formula, compute, part, False
        return shell

    @property
    def layer(self) -> nn.Module:
        """The layer whose weight this is."""
        return self.formula.layer

    @property
    def leaf(self) -> str:
        """The name of the weight in that layer."""
        return self.formula.leaf

    @property
    def adapter(self) -> Adapter:
        """The parameters that the weight is computed from."""
        return self.formula.adapter

    def computed(self) -> Tensor:
        """Return the present weight in memory, without autograd history."""
        with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
            return self._compute()

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        """Return the text of a tensor with these values."""
        return repr(self.computed())

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Handle operations that do not reach ``__torch_dispatch__``."""
        given = kwargs or {}
        this = args[0] if args and isinstance(args[0], LayerWeight) else None
        if this is not None:
            if func in _WRITES:
                raise read_only(this.layer, f"{_WRITES[func]} cannot change it", this.leaf)
            if func == _GRAD:
                return None
            if func is Tensor.data_ptr:
                this._given_out = this.computed()  # kept as long as this object
                return func(this._given_out)
            if func == Tensor.__getitem__ and this._picks and _is_of_first_dimension(args[1]):
                return this.formula[args[1]].weight()
            if func in _READS_MEMORY:
                return func(this.computed(), *args[1:], **given)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **given)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Run an operation on values. Views are computed when they are used, like the weight."""
        given = kwargs or {}
        for number, argument in enumerate(func._schema.arguments):
            value = args[number] if number < len(args) else given.get(argument.name)
            written = argument.alias_info is not None and argument.alias_info.is_write
            if written and isinstance(value, LayerWeight):
                what = f"{func._schema.name.removeprefix('aten::')} cannot change it"
                raise read_only(value.layer, what, value.leaf)
        if func in _PARTLY:
            found = _PARTLY[func](func, *args, **given)
            if found is not None:
                return found
        this = args[0] if args else None
        if isinstance(this, LayerWeight) and func.is_view:
            several = isinstance(func._schema.returns[0].type, torch.ListType)
            if not several or this.formula.held is None:  # else all views are of one tensor, computed once
                return this._viewed(func, args[1:], given)
        args, given = tree_map_only(LayerWeight, LayerWeight.computed, (args, given))
        return func(*args, **given)

    def _viewed(self, func: Any, rest: Any, given: Any) -> Any:
        """Return a view, or several, computed when they are used."""
        like = torch.empty_strided(self.size(), self.stride(), dtype=self.dtype, device="meta")
        likes = func(like, *rest, **given)
        chosen = self._along_first(func, rest, given)
        if isinstance(likes, Tensor):
            if chosen is not None:
                return self._narrowed(likes, chosen)
            return LayerWeight(
                likes, self.formula, lambda: func(self.computed(), *rest, **given), self._transposed(func, rest)
            )
        if chosen is not None:
            return list(map(self._narrowed, likes, chosen))
        return [
            LayerWeight(one, self.formula, partial(self._one_of, func, rest, given, at)) for at, one in enumerate(likes)
        ]

    def _one_of(self, func: Any, rest: Any, given: Any, at: int) -> Any:
        """Return one of several views."""
        return func(self.computed(), *rest, **given)[at]

    def _along_first(self, func: Any, rest: Any, given: Any) -> Any:
        """Return the numbers of what a view takes of the first dimension, if that can be computed alone."""
        if self._part is None or func not in _ALONG:
            return None
        names = [argument.name for argument in func._schema.arguments[1:]]
        options = {**dict(zip(names, rest, strict=False)), **given}
        if options.get("dim", 0) % self.dim():
            return None
        return func(torch.arange(self.shape[0], dtype=torch.int64, device="cpu"), **{**options, "dim": 0})

    def _narrowed(self, like: Tensor, numbers: Tensor) -> "LayerWeight":
        whole = self._part
        assert whole is not None

        def part(index: Any) -> Tensor:
            return whole(_as_index(numbers[index.cpu() if isinstance(index, Tensor) else index]))

        made: LayerWeight = LayerWeight(
            like, self.formula, lambda: whole(_as_index(numbers)), part if numbers.dim() else None
        )
        return made

    def _transposed(self, func: Any, rest: Any) -> Callable[[Any], Tensor] | None:
        """Return what computes a part of the first dimension of a view that transposes others."""
        part = self._part
        if part is None or func is not _aten.transpose.int:
            return None
        dims = [dim % self.dim() - self.dim() for dim in rest]  # from the end, which an index does not change
        return None if -self.dim() in dims else lambda index: part(index).transpose(*dims)


def _as_index(numbers: Tensor) -> Any:
    """Return an int or a slice for the numbers that one gives, which copies nothing that is in memory."""
    if numbers.dim() != 1:
        return numbers if numbers.dim() else int(numbers)
    found = numbers.tolist()
    step = found[1] - found[0] if len(found) > 1 else 1
    evenly = found and step > 0 and found == [*range(found[0], found[-1] + 1, step)]
    return slice(found[0], found[-1] + 1, step) if evenly else numbers


def _looked_up(_: Any, weight: Any, indices: Any, *__: Any, **___: Any) -> Any:
    """Return rows of an embedding, without computing others."""
    if not isinstance(weight, LayerWeight) or weight._part is None or isinstance(indices, LayerWeight):
        return None
    if indices.dtype not in (torch.int64, torch.int32):
        return None  # torch refuses them
    if bool((indices < 0).any()):
        raise IndexError(f"{name_of(weight.layer)}: indices of an embedding must not be negative")
    return weight._part(indices)


def _in_groups(func: Any, x: Any, weight: Any, offs: Any = None, bias: Any = None, out_dtype: Any = None) -> Any:
    """Return a grouped product, without computing the matrices of empty groups."""
    if not isinstance(weight, LayerWeight) or weight._part is None or offs is None or bias is not None:
        return None
    if (x.dim(), weight.dim()) != (2, 3):  # else the groups are not matrices of the weight
        return None
    out = x.new_zeros(len(x), weight.shape[2], dtype=out_dtype or x.dtype)
    begin = 0
    for number, end in enumerate(offs.tolist()):
        if end > begin:
            one = weight._part(slice(number, number + 1))
            out[begin:end] = func(x[begin:end], one, offs.new_tensor([end - begin]), None, out_dtype)
        begin = end
    return out


_PARTLY: Final[dict[Any, Callable[..., Any]]] = {_aten.embedding.default: _looked_up, _GROUPED_MM: _in_groups}
"""Operations that need a part of a batch of matrices, with functions that return None where they need all of it."""


def _is_of_first_dimension(index: Any) -> bool:
    """Return whether an index selects whole matrices of a batch."""
    if isinstance(index, Tensor):
        return index.dtype in (torch.int64, torch.int32)
    return isinstance(index, int | slice) and not isinstance(index, bool)


def read_only(layer: nn.Module, what: str, leaf: str | None = None) -> ScaffoldError:
    """Return the error for code that writes to the weight of a layer.

    Args: layer; what, the refused change as text; leaf, the name of the weight, if it is known.
    """
    return ScaffoldError(
        f"the {leaf or 'weight'} of {name_of(layer)} follows from its seed and adapter: {what}",
        hint="Initialise, resize and replace layers before scaffold(). To train less, freeze lora_A, lora_B and beta. "
        "layer.weight.clone() is a copy to work on.",
    )


def name_of(layer: nn.Module) -> str:
    """Return the name of a layer for an error."""
    sources = noted(layer).sources
    source = sources.get("weight") or next(iter(sources.values()), None)
    return f"a {type(layer).__name__}" if source is None else source.name.rpartition(".")[0] or "the layer"


class _History(torch.autograd.Function):
    """Computes the gradients of the adapter from the gradient of the weight."""

    @staticmethod
    def forward(ctx: Any, formula: Formula, *parts: Tensor | None) -> Tensor:
        held, *adapter = parts
        ctx.formula = formula
        # torch compares the versions of what is saved. It cannot save an inference tensor.
        ctx.save_for_backward(None if held is None or held.is_inference() else held, *adapter)
        return formula.shell()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        _, *adapter = ctx.saved_tensors
        formula = replace(ctx.formula, adapter=tuple(adapter))
        needed = ctx.needs_input_grad[2:]
        wanted = [part for part, need in zip(adapter, needed, strict=True) if need]
        twice = torch.is_grad_enabled()
        pieces = [] if twice else list(formula.pieces())
        with torch.enable_grad():
            parts = [(formula[one], grads[0][one]) for one in pieces] if len(pieces) > 1 else [(formula, grads[0])]
            found: Any = None
            for part, grad in parts:
                these = torch.autograd.grad(part.value(*part.adapter), wanted, grad, create_graph=twice)
                found = these if found is None else [one.add_(other) for one, other in zip(found, these, strict=True)]
        gradients = iter(found)
        return None, None, *(next(gradients) if need else None for need in needed)


def layer_weight(
    layer: nn.Module,
    combine: Combine,
    backbone: Tensor | Part,
    adapter: Adapter,
    *,
    leaf: str = "weight",
    batch: int = 0,
) -> Tensor:
    """Return the weight ``combine(backbone, *adapter)``, computed when it is used. Args: as in Formula."""
    return Formula(layer, leaf, combine, backbone, adapter, batch).weight()


_PLAIN: Final = (Tensor, nn.Parameter, type(None))


def _recorded(layer: nn.Module) -> bool:
    """Return whether operations are recorded or transformed, which a tensor that computes later would prevent."""
    if is_fx_symbolic_tracing() and not torch.compiler.is_compiling():
        raise untraced(layer)
    return is_recorded()


def untraced(layer: nn.Module, tool: str = "torch.fx cannot trace") -> UnsupportedError:
    """Return the error for tools that read the code of a layer with an adapter."""
    return UnsupportedError(
        f"{name_of(layer)}: {tool} a layer with an adapter or a virtual weight",
        hint="Use torch.compile or torch.export, or take the model that load(..., merge=True) returns.",
    )
