"""Find the tensors that modules hold besides their parameters and buffers: in lists, in objects and in closures."""

import inspect
import types
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, Final, NamedTuple

from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from lottapack.arch.walk import named_modules

_OF_TORCH: Final = frozenset({*vars(nn.Module()), "_flat_weights"})
"""What torch keeps in modules. A recurrent layer makes its list of weights again before it runs."""
_HOOKS: Final = ("_forward_hooks", "_forward_pre_hooks")
_DEEPEST: Final = 4
"""How many containers and objects may be inside one another."""
_PLAIN: Final = (str, bytes, int, float, complex, type, type(None), types.ModuleType)
_FUNCTIONS: Final = types.FunctionType, types.MethodType, types.BuiltinFunctionType
_TRUSTED: Final = frozenset({"builtins", "collections", "logging", "numpy", "re", "threading", "torch"})
"""Packages whose objects are not looked into."""


class Held(NamedTuple):
    """Tensors that attributes of a model's modules lead to.

    Attributes:
        hidden: those that no parameter, buffer or attribute of a module is, each with its place.
        aliases: further places of tensors of the state_dict, or of views of them, each with the tensor's name.
    """

    hidden: list[tuple[str, Tensor]]
    aliases: list[tuple[str, str]]


def held_by_attributes(model: nn.Module) -> Held:
    """Return the tensors that attributes of a model's modules lead to, besides its parameters and buffers."""
    modules = named_modules(model)
    seen = {id(module) for _, module in modules}
    held = [
        (value, f"{prefix}.{name}" if prefix else name)
        for prefix, module in modules
        for name, value in vars(module).items()
        if name not in _OF_TORCH and not issubclass(type(value), _PLAIN)
    ]
    held += [
        (hooks, f"{prefix}.{name}" if prefix else name)
        for prefix, module in modules
        for name in _HOOKS
        if (hooks := vars(module)[name])
    ]
    others = [(value, place) for value, place in held if not isinstance(value, Tensor)]
    found = [item for value, place in others for item in _inside(value, place, _DEEPEST, seen)]
    normed = {
        f"{prefix}.{hook.name}" if prefix else hook.name for prefix, module in modules for hook in normalising(module)
    }
    own = [(place, value) for value, place in held if isinstance(value, Tensor) and place not in normed]
    if not found and not own:
        return Held([], [])
    state = {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
    memory = {memory_of(tensor): name for name, tensor in state.items()}
    known = {id(tensor) for tensor in chain(state.values(), model.buffers(), (tensor for _, tensor in own))}
    return Held(
        hidden=[(place, tensor) for place, tensor in found if id(tensor) not in known],
        aliases=[(place, memory[at]) for place, tensor in found + own if (at := memory_of(tensor)) in memory],
    )


def normalising(module: nn.Module) -> list[Any]:
    """Return the hooks of the former weight_norm and spectral_norm, which set the attribute ``hook.name``."""
    return [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, WeightNorm | SpectralNorm)]


def memory_of(tensor: Tensor) -> int:
    """Return what is the same for a tensor, its views and its ``data``, also on the meta device."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # a sparse or a fake one
        return id(tensor)


def _inside(value: Any, place: str, depth: int, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield place, value
    elif id(value) in seen or not depth or issubclass(type(value), _PLAIN):
        return
    elif isinstance(value, nn.Module):
        for name, tensor in chain(value.named_parameters(), value.named_buffers()):
            yield f"{place}.{name}", tensor
    else:
        seen.add(id(value))
        for name, inner in _items(value):
            yield from _inside(inner, f"{place}{name}", depth - 1, seen)


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a container, a function or an object holds, each with the end of its place."""
    if isinstance(value, dict):
        yield from ((f"[{key}]", inner) for key, inner in value.items())
    elif isinstance(value, list | tuple | set | frozenset | deque):
        yield from ((f"[{number}]", inner) for number, inner in enumerate(value))
    elif isinstance(value, partial):
        yield from ((f"({number})", inner) for number, inner in enumerate((*value.args, *value.keywords.values())))
    elif isinstance(value, _FUNCTIONS):
        yield from surroundings(value)
    elif type(value).__module__.partition(".")[0] not in _TRUSTED:
        yield from ((f".{name}", inner) for name, inner in fields(value).items())


def surroundings(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a function has from around it or as defaults, and the object that a method belongs to."""
    if isinstance(value, types.FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            with suppress(ValueError):  # it is not set yet
                yield f".{name}", cell.cell_contents
        yield from ((f"(default {number})", inner) for number, inner in enumerate(value.__defaults__ or ()))
        yield from ((f"({name})", inner) for name, inner in (value.__kwdefaults__ or {}).items())
    elif isinstance(value, types.MethodType | types.BuiltinFunctionType):
        yield ".__self__", value.__self__


def fields(value: Any) -> dict[str, Any]:
    """Return what an object holds under its attributes, including those in slots."""
    slotted = (cls for cls in type(value).__mro__ if "__slots__" in vars(cls))
    slots = (slot for cls in slotted for slot in vars(cls).values() if inspect.ismemberdescriptor(slot))
    held = {slot.__name__: slot.__get__(value) for slot in slots if hasattr(value, slot.__name__)}
    return held | getattr(value, "__dict__", {})
