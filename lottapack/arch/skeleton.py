"""Build a module without its weights."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.overrides import TorchFunctionMode

from lottapack.arch.account import Account
from lottapack.arch.bits import bytes_of, flat_bytes, kind_of
from lottapack.arch.budget import Budget
from lottapack.arch.hidden import held_by_attributes, normalising
from lottapack.arch.modes import WithoutWeights
from lottapack.arch.sealed import sealed
from lottapack.arch.walk import modules, named_modules
from lottapack.arch.watched import run_watched
from lottapack.errors import ArchitectureError, LimitError, LottapackError

Construct = Callable[[], nn.Module]
Result = TypeVar("Result")
_LARGE = 1 << 18
"""Elements."""
_AT_ONCE: Final = 16_000_000
"""The bytes of tensors that the only pass may have in use. Measured: 1.1 MB for a Llama of 8 billion parameters."""
OF_TORCH: Final = frozenset(vars(nn.Module()))
"""The attributes that torch keeps in every module: parameters, buffers, children, hooks and flags."""
_PLAIN: Final = frozenset({type(None), bool, int, float, str})
"""The types of most attributes."""
_TOO_LARGE = ("Storage size calculation overflowed", "not enough memory", "can't allocate memory", "numel: integer")
"""torch's messages for sizes that no machine has; Python raises OverflowError for numbers beyond torch's integers."""

ALIAS: Final = "Read it from its module where it is used. Keep a list of parameters in a ParameterList."
_TO_STORE: Final = (
    "Make it a persistent buffer (register_buffer), so that the pack can store it. Hold a layer as an attribute of a "
    "module, or in an nn.ModuleList."
)


def build_skeleton(
    construct: Construct, label: str, budget: Budget, *, memory: bool = False, at_once: bool = False
) -> nn.Module:
    """Construct on the meta device; construct again if some tensors are in no state_dict, so that these are real.

    Only the constructor can compute such tensors (rotary frequencies, position ids). The first pass, all on meta, shows
    that the second is worth starting and fits the memory, whatever sizes the configuration names.

    ``budget``: the limits. ``memory``: if that does not suffice, construct once more with the model's memory,
    uninitialised. This is for families whose describe() compares the result, which would be wrong if it depended on a
    weight. ``at_once``: first try whether one pass with little memory suffices, for families where it usually does.

    All this runs in another thread that can only open files of packages, so other threads do not see any change. Raises
    ArchitectureError, LimitError.
    """
    account = Account(label, budget)

    def work() -> nn.Module:
        built = _built_at_once(construct, label, account) if at_once else None
        return _build(construct, label, account, memory=memory) if built is None else built

    return run_watched(work, label, account)


def guarded(work: Callable[[], Result], label: str, budget: Budget) -> Result:
    """Run what a library does with a configuration, without a module, under the same limits."""

    def alone() -> Result:
        with named(label), sealed():
            return work()

    return run_watched(alone, label, Account(label, budget))


def _built_at_once(construct: Construct, label: str, account: Account) -> nn.Module | None:
    """Construct with real tensors where they are small; return None unless that gives all that no checkpoint holds."""
    module = None
    with account.trial(_AT_ONCE) as trial:
        try:
            module = constructed(construct, label, WithoutWeights(account, computed=True, most=_LARGE))
        except LottapackError as fault:
            if isinstance(fault, LimitError) and not trial.refused:  # it creates too many tensors, in any pass
                raise
    if module is None or trial.refused:
        return None
    outside = _without_state(module, label)
    if _on_meta(outside):
        return None
    account.require_computed(sum(bytes_of(tensor) for _, tensor in outside))
    _empty(module)
    return module


def _build(construct: Construct, label: str, account: Account, *, memory: bool) -> nn.Module:
    module = constructed_for_its_sizes(construct, label, account)
    outside = _without_state(module, label)
    computed = [tensor for _, tensor in outside]
    if not computed:
        _empty(module)
        return module
    account.require_computed(sum(map(bytes_of, computed)))
    state = list(module.state_dict().values())
    account.allow(sum(map(bytes_of, state)))
    # Weights that begin as zeros or ones need no memory if nothing is computed from them.
    weights = {tuple(t.shape) for t in state if t.numel() > _LARGE} - {tuple(t.shape) for t in computed}
    missing = _on_meta(outside)
    # A constructor may read what looks like a weight and fail without its numbers; then the pass below gives it memory.
    with suppress(ArchitectureError):
        module = constructed(construct, label, WithoutWeights(account, computed=True, weights=weights))
        missing = _missing(module, label)
    if memory and weights and missing:
        with suppress(ArchitectureError):
            module = constructed(construct, label, WithoutWeights(account, memory=True, weights=weights))
            missing = _missing(module, label)
    if missing and (memory or weights):
        module = constructed(construct, label, WithoutWeights(account, computed=True, memory=memory))
        missing = _missing(module, label)
    if missing:
        raise ArchitectureError(
            f"{label}: cannot compute {', '.join(missing[:5])} without weights, and no checkpoint holds it",
            hint=_TO_STORE,
        )
    _empty(module)
    return module


def constructed(construct: Construct, label: str, mode: TorchFunctionMode) -> nn.Module:
    """Call an untrusted constructor under a mode."""
    with named(label), sealed(), mode:
        return construct()


def constructed_for_its_sizes(construct: Construct, label: str, account: Account) -> nn.Module:
    """Construct on the meta device, or with small tensors real if the constructor reads numbers that it computes.

    Many do: ``[x.item() for x in torch.linspace(0, rate, depth)]`` are the rates of stochastic depth. Numbers of
    weights are not known in either case. Raises ArchitectureError, LimitError.
    """
    try:
        return constructed(construct, label, WithoutWeights(account))
    except ArchitectureError as fault:
        if fault.__cause__ is None:  # not from the constructor
            raise
        try:
            return constructed(construct, label, WithoutWeights(account, computed=True, most=_LARGE))
        except ArchitectureError as again:
            raise (fault if "meta" in str(again) else again) from again.__cause__


def _missing(module: nn.Module, label: str) -> list[str]:
    return _on_meta(_without_state(module, label))


def _on_meta(tensors: list[tuple[str, torch.Tensor]]) -> list[str]:
    return [name for name, tensor in tensors if tensor.is_meta]


def _without_state(module: nn.Module, label: str = "") -> list[tuple[str, torch.Tensor]]:
    """Return all tensors that no checkpoint holds, by name.

    ``label``: of a module that was just built, which must hold the tensors of its state_dict under their names only:
    loading replaces them. Raises ArchitectureError otherwise.
    """
    held = held_by_attributes(module)
    if label and held.aliases:
        place, name = held.aliases[0]
        raise ArchitectureError(f"{label}: {name} is also in {place}, which would keep other values", hint=ALIAS)
    computed = list(computed_tensors(module))
    known = {id(tensor) for _, tensor in computed}
    return computed + [(name, tensor) for name, tensor in held.hidden if id(tensor) not in known]


def _empty(module: nn.Module) -> None:
    """Move what the state_dict will bring to the meta device; tied tensors stay tied."""
    seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for inner in modules(module):
        stores: tuple[dict[str, Any], ...] = (inner._parameters, inner._buffers)
        for store in stores:
            for name, tensor in store.items():
                if tensor is None or tensor.is_meta or name in inner._non_persistent_buffers_set:
                    continue
                if id(tensor) not in seen:
                    bare = tensor.detach().to("meta")
                    is_parameter = isinstance(tensor, nn.Parameter)
                    seen[id(tensor)] = tensor, nn.Parameter(bare, tensor.requires_grad) if is_parameter else bare
                store[name] = seen[id(tensor)][1]


@contextmanager
def named(label: str, hint: str = "Install the version of the library that described the model.") -> Iterator[None]:
    """Turn whatever a library's constructor raises on a bad configuration into one typed error."""
    try:
        yield
    except LottapackError:
        raise
    except Exception as fault:
        if isinstance(fault, MemoryError | OverflowError) or any(words in str(fault) for words in _TOO_LARGE):
            raise LimitError(
                f"cannot build {label} from its configuration: it needs more memory than any machine has: {fault}",
                hint="Check the sizes in its configuration. Do not use a pack with such sizes.",
            ) from fault
        if "meta tensor" in str(fault):
            hint = (
                "Its constructor reads values of weights, but models are described and loaded without values. Move "
                "that to the forward pass. torch.nn.utils.parametrizations.orthogonal reads them too."
            )
        raise ArchitectureError(
            f"cannot build {label} from its configuration: {type(fault).__name__}: {fault}",
            hint=hint,
        ) from fault


WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""The names under which torch.compile, FSDP and activation checkpointing hold the module that they wrap."""


def plain_name(name: str) -> str:
    """Return a name without what wrappers add to it."""
    return ".".join(step for step in name.split(".") if step not in WRAPPERS)


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside those wrappers."""
    while (inner := next((module._modules[name] for name in WRAPPERS if name in module._modules), None)) is not None:
        module = inner
    return module


def computed_buffers(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield non-persistent buffers by name."""
    return _computed_buffers(named_modules(module))


def _computed_buffers(parts: Iterable[tuple[str, nn.Module]]) -> Iterator[tuple[str, torch.Tensor]]:
    for prefix, inner in parts:
        for name in inner._non_persistent_buffers_set:
            buffer = inner._buffers.get(name)
            if buffer is not None:
                yield f"{prefix}.{name}" if prefix else name, buffer


def computed_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield non-persistent buffers, and tensors that attributes hold, by name: those that no checkpoint holds."""
    parts = named_modules(module)
    yield from _computed_buffers(parts)
    for prefix, inner in parts:
        for name, value in attributes(inner):
            yield f"{prefix}.{name}" if prefix else name, value


def attributes(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of one module that are mere attributes, or in lists, tuples and dicts, as ``name[0]``.

    Without those that a hook of torch computes before each forward pass.
    """
    held: dict[str, torch.Tensor] = {}
    inside: list[tuple[str, torch.Tensor]] = []
    for name, value in [item for item in vars(module).items() if item[0] not in OF_TORCH]:
        if type(value) in _PLAIN:
            continue
        if isinstance(value, torch.Tensor):
            held[name] = value
        elif isinstance(value, _CONTAINERS):
            found = _within(value, name, _DEEPEST)
            inside += [(place, tensor) for place, tensor in found if not isinstance(tensor, nn.Parameter)]
    made = {id(held.pop(hook.name)) for hook in normalising(module) if hook.name in held}
    yield from held.items()
    if inside:  # recurrent layers list their weights, and wrappers such as DDP the buffers of what they wrap
        in_state = made.union(map(id, module.parameters()), map(id, module.buffers()))
        yield from ((place, tensor) for place, tensor in inside if id(tensor) not in in_state)


def set_attribute(module: nn.Module, place: str, tensor: torch.Tensor) -> None:
    """Replace a tensor under a name that attributes() gave it."""
    name, inside, _ = place.partition("[")
    if not inside:
        setattr(module, name, tensor)
        return
    vars(module)[name] = _replaced(vars(module)[name], name, place, tensor)


_CONTAINERS: Final = (list, tuple, dict)
_DEEPEST: Final = 4
"""How many containers may be inside one another."""


def _items(container: Any, place: str) -> Iterator[tuple[Any, str, Any]]:
    """Yield key, place and value of each item of a list, tuple or dict."""
    for key, value in container.items() if isinstance(container, dict) else enumerate(container):
        yield key, f"{place}[{str(key).replace('.', '_')}]", value


def _within(container: Any, place: str, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    for _, inner, value in _items(container, place):
        if isinstance(value, torch.Tensor):
            yield inner, value
        elif depth > 1 and isinstance(value, _CONTAINERS):
            yield from _within(value, inner, depth - 1)


def _replaced(container: Any, place: str, wanted: str, tensor: torch.Tensor) -> Any:
    """Return a container with a tensor in one place; lists and dicts are changed in place."""
    for key, inner, value in list(_items(container, place)):
        if inner == wanted or wanted.startswith(f"{inner}["):
            new = tensor if inner == wanted else _replaced(value, inner, wanted, tensor)
            if isinstance(container, tuple):
                items = [*container[:key], new, *container[key + 1 :]]
                return type(container)(*items) if hasattr(container, "_fields") else type(container)(items)
            container[key] = new
    return container


def require_same_computed(
    model: nn.Module, rebuilt: nn.Module, label: str, again: Callable[[], nn.Module] | None = None
) -> None:
    """Raise ArchitectureError unless tensors that no checkpoint holds have the same bits in both models.

    A constructor may compute them from numbers that differ each time, or a forward pass may have changed them.
    ``again`` builds the module once more, to tell which.
    """
    name = _first_other(model, rebuilt)
    if name is None:
        return
    if again is None or _first_other(again(), rebuilt) is not None:
        raise ArchitectureError(
            f"rebuilding {label} gives a different {name}, which no checkpoint holds",
            hint=_TO_STORE,
        )
    raise ArchitectureError(
        f"{name}, which no checkpoint holds, has changed since this {label} was built",
        hint="A forward pass uses such a tensor as a cache, or other code changed it. Build the model again, scaffold "
        "or pack it before it runs, and load the trained weights into that one. Hold a layer as an attribute of a "
        "module, or in an nn.ModuleList.",
    )


def _first_other(model: nn.Module, rebuilt: nn.Module) -> str | None:
    """Return the name of the first tensor that no checkpoint holds and that differs between the two, or None."""
    known, own = dict(_without_state(rebuilt)), dict(computed_tensors(model))
    for name, tensor in _without_state(model):
        other = known.get(name)
        if other is None and name not in own:
            continue  # in an object or a function, where forward passes keep what they computed
        if other is None or not same_tensor(tensor.detach().cpu(), other.detach().to(tensor.dtype).cpu()):
            return name
    return None


def same_tensor(first: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors have the same shape and bits."""
    if first.layout is not other.layout or first.shape != other.shape:
        return False
    if first.is_meta:
        return True
    return torch.equal(flat_bytes(first), flat_bytes(other))


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a module's state_dict. Raises ArchitectureError for an entry without a shape."""
    state = module.state_dict(keep_vars=True)
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            raise ArchitectureError(
                f"a pack cannot hold {name} of the state_dict, a {type(tensor).__name__}", hint="Make it a tensor."
            )
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            raise ArchitectureError(
                f"{name} does not have a shape yet", hint="Pass the layer its sizes when you build it."
            )
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def require_layouts(module: nn.Module) -> None:
    """Raise ArchitectureError for a tensor that a pack cannot hold, or a computed one that cannot be compared."""
    for name, tensor in [*module.state_dict(keep_vars=True).items(), *computed_tensors(module)]:
        kind = kind_of(tensor) if isinstance(tensor, torch.Tensor) else "strided"
        if kind != "strided":
            raise ArchitectureError(
                f"{name} is a {kind} tensor, which the format does not support",
                hint="Keep a dense one and convert it in forward(), or pass it to forward().",
            )


def budget_of(module: nn.Module) -> Budget:
    """Return the budget for building an existing module again: the same as for whoever loads its pack."""
    shapes = shapes_of(module)
    return Budget.of_shapes(
        (shapes[name], tensor.element_size()) for name, tensor in module.state_dict(keep_vars=True).items()
    )
