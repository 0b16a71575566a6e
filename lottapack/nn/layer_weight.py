"""The ``weight`` of a layer with an adapter, for code that reads it instead of calling the layer.

torch's fast paths, Mamba, and attention layers that call ``torch.nn.functional`` read a child's ``weight``. They get
the adapted weight, computed when an operation uses it. Decision 0037.
"""

import itertools
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.fx._symbolic_trace import is_fx_symbolic_tracing
from torch.utils._pytree import tree_map_only

from lottapack.arch.noted import noted
from lottapack.errors import ScaffoldError, UnsupportedError
from lottapack.format.descriptor import FACTORS
from lottapack.format.names import ADAPTER_PARTS

Adapter = tuple[Tensor | None, ...]
"""The parameters of an adapter, in the order in which its layer combines them with the backbone."""

Combine = Callable[..., Tensor]
"""Computes the weight from the backbone (None if it is generated at each use) and the adapter."""

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


class LayerWeight(Tensor):
    """A tensor without memory. It has shape, dtype and device, and computes its values when an operation needs them.

    torch's fast paths are not used, as for every tensor type that overrides operations.

    Attributes:
        layer: the layer whose weight this is.
        leaf: the name of the weight in that layer.
        adapter: the parameters that the weight is computed from.
    """

    layer: nn.Module
    leaf: str
    adapter: Adapter
    _compute: Callable[[], Tensor]
    _pick: Callable[[Any], Tensor] | None
    _given_out: Tensor

    @staticmethod
    def __new__(
        cls,
        like: Tensor,
        device: torch.device,
        layer: nn.Module,
        leaf: str,
        adapter: Adapter,
        compute: Callable[[], Tensor],
        pick: Callable[[Any], Tensor] | None = None,
    ) -> Any:
        """Create the tensor.

        Args:
            cls: this class.
            like: a tensor with the shape, strides and dtype.
            device: the device that it reports.
            layer: the layer whose weight this is.
            leaf: the name of the weight in that layer.
            adapter: as in the class.
            compute: returns the values.
            pick: returns the part at an index of the first dimension, if that can be computed alone.
        """
        shell = Tensor._make_wrapper_subclass(
            cls, like.shape, like.stride(), like.storage_offset(), dtype=like.dtype, device=device
        )
        # Native code that asks for the memory gets an error instead of address 0.
        torch._C._set_throw_on_mutable_data_ptr(shell)
        shell.layer, shell.leaf, shell.adapter, shell._compute, shell._pick = layer, leaf, adapter, compute, pick
        return shell

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
            if func == Tensor.__getitem__ and this._pick is not None and _is_of_first_dimension(args[1]):
                return this._pick(args[1])
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
        this = args[0] if args else None
        if isinstance(this, LayerWeight) and func.is_view and not _gives_several(func):
            like = torch.empty_strided(this.size(), this.stride(), dtype=this.dtype, device="meta")
            like = func(like, *args[1:], **given)
            rest = args[1:]
            return LayerWeight(
                like, this.device, this.layer, this.leaf, this.adapter, lambda: func(this.computed(), *rest, **given)
            )
        args, given = tree_map_only(LayerWeight, LayerWeight.computed, (args, given))
        return func(*args, **given)


def _gives_several(func: Any) -> bool:
    return isinstance(func._schema.returns[0].type, torch.ListType)


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
    def forward(ctx: Any, shell: Callable[[Adapter], Tensor], combine: Combine, *parts: Tensor | None) -> Tensor:
        backbone, *adapter = parts
        ctx.combine = combine
        ctx.backbone = backbone if backbone is not None and backbone.is_inference() else None  # which cannot be saved
        ctx.save_for_backward(backbone if ctx.backbone is None else None, *adapter)
        return shell(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        backbone, *adapter = ctx.saved_tensors
        needed = ctx.needs_input_grad[3:]
        wanted = [part for part, need in zip(adapter, needed, strict=True) if need]
        twice = torch.is_grad_enabled()
        with torch.enable_grad():
            weight = ctx.combine(backbone if ctx.backbone is None else ctx.backbone, *adapter)
            found = iter(torch.autograd.grad(weight, wanted, grads[0], create_graph=twice))
        return None, None, None, *(next(found) if need else None for need in needed)


def layer_weight(
    layer: nn.Module,
    combine: Combine,
    like: Tensor,
    device: torch.device,
    backbone: Tensor | None,
    adapter: Adapter,
    *,
    leaf: str = "weight",
    batched: bool = False,
) -> Tensor:
    """Return the weight ``combine(backbone, *adapter)``, computed when it is used.

    Args:
        layer: whose weight it is.
        combine: computes the weight with torch operations, so that gradients reach the adapter.
        like: a tensor of the weight's shape and dtype.
        device: the weight's.
        backbone: the frozen weight, or None if ``combine`` generates it.
        adapter: its parameters; none for a layer that has no adapter.
        leaf: the name of the weight in the layer.
        batched: whether the first dimension of backbone, factors and magnitude counts matrices, so that an index picks
            some of them, and no others are computed. A factor of two dimensions serves all matrices.
    """
    parts = backbone, *adapter
    if _recorded(layer) or any(type(part) not in _PLAIN for part in parts):
        return combine(*parts)
    like = torch.empty(like.shape, dtype=like.dtype, device="meta")

    def pick(index: Any) -> Tensor:
        assert backbone is not None
        some, factors = backbone[index], tuple(map(part_of, adapter, OWN_DIMS, itertools.repeat(index)))
        still = any(part is not None and part.dim() > own for part, own in zip(factors, OWN_DIMS, strict=True))
        return layer_weight(layer, combine, some, device, some, factors, leaf=leaf, batched=still)

    def part_of(part: Tensor | None, own: int, index: Any) -> Tensor | None:
        return part if part is None or part.dim() == own else part[index]

    def shell(parts: Adapter) -> Tensor:
        compute = _computing(layer, combine, parts)
        made: Tensor = LayerWeight(like, device, layer, leaf, parts[1:], compute, pick if batched else None)
        return made

    if torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in adapter):
        found: Tensor = _History.apply(shell, combine, *parts)  # type: ignore[no-untyped-call]
        return found
    return shell(parts)


_PLAIN: Final = (Tensor, nn.Parameter, type(None))


def _recorded(layer: nn.Module) -> bool:
    """Return whether operations are recorded or transformed, which a tensor that computes later would prevent."""
    if torch.compiler.is_compiling():
        return True
    if is_fx_symbolic_tracing():
        raise UnsupportedError(
            f"{name_of(layer)}: torch.fx cannot trace a module that reads the weight of a layer with an adapter",
            hint="Use torch.compile or torch.export, or trace the model that load(..., merge=True) returns.",
        )
    return (
        torch._C._get_tracing_state() is not None
        or torch._C._are_functorch_transforms_active()
        or getattr(forward_ad, "_current_level", -1) >= 0
    )


def _computing(layer: nn.Module, combine: Combine, parts: Adapter) -> Callable[[], Tensor]:
    versions = _versions(parts)

    def compute() -> Tensor:
        if versions != _versions(parts) and torch._C._current_graph_task_id() != -1:
            raise RuntimeError(
                f"a backward pass needs the weight of {name_of(layer)} as it was in the forward pass, and its adapter "
                "or backbone was changed in place since then"
            )
        return combine(*parts)

    return compute


def _versions(parts: Adapter) -> list[int]:
    return [part._version for part in parts if part is not None and not part.is_inference()]
