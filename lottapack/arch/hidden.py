"""Find the tensors of a module that no name leads to: those of layers in plain lists, in objects and in closures."""

import types
from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any, Final

from torch import Tensor, nn

_OF_TORCH: Final = frozenset({*vars(nn.Module()), "_flat_weights"})
"""What torch keeps in modules. A recurrent layer makes its list of weights again before it runs."""
_DEEPEST: Final = 4
"""How many containers and objects may be inside one another."""
_PLAIN: Final = (str, bytes, int, float, complex, type, type(None), types.ModuleType, types.BuiltinFunctionType)
_TRUSTED: Final = frozenset({"builtins", "collections", "logging", "numpy", "re", "threading", "torch"})
"""Packages whose objects are not looked into."""


def hidden_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield by place the tensors that no parameter, buffer or attribute of a module in the model is."""
    modules = list(model.named_modules())
    seen = {id(module) for _, module in modules}
    held = [
        (value, f"{prefix}.{name}" if prefix else name)
        for prefix, module in modules
        for name, value in vars(module).items()
        if name not in _OF_TORCH and not issubclass(type(value), _PLAIN)
    ]
    own = [value for value, _ in held if isinstance(value, Tensor)]
    others = [(value, place) for value, place in held if not isinstance(value, Tensor)]
    found = [item for value, place in others for item in _inside(value, place, _DEEPEST, seen)]
    if found:
        known = {id(tensor) for tensor in chain(model.parameters(), model.buffers(), own)}
        yield from ((place, tensor) for place, tensor in found if id(tensor) not in known)


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
    elif isinstance(value, types.FunctionType):
        names, cells = value.__code__.co_freevars, value.__closure__ or ()
        yield from ((f".{name}", _held(cell)) for name, cell in zip(names, cells, strict=True))
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
    elif type(value).__module__.partition(".")[0] not in _TRUSTED:
        yield from ((f".{name}", inner) for name, inner in getattr(value, "__dict__", {}).items())


def _held(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is not set yet
        return None
