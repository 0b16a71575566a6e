"""What the values, containers and objects that a module holds are, in words, so that two builds can be compared."""

import argparse
import hashlib
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from lottapack.arch.bits import SPARSE, flat_bytes, kind_of, parts
from lottapack.arch.hidden import fields, surroundings

OBSERVERS: Final = frozenset(
    {
        *("accelerate", "comet_ml", "deepspeed", "fvcore", "lightning", "lightning_fabric", "lottapack", "mlflow"),
        *("peft", "pytorch_lightning", "torch", "torchao", "torchinfo", "transformers", "wandb"),
    }
)
"""Packages whose hooks and objects watch a model or change how it runs. What else they do to it shows in its tensors or
classes."""

_RECORDS: Final = (types.SimpleNamespace, argparse.Namespace)
_DEEPEST: Final = 4
"""How many containers and objects may be inside one another."""
_LONGEST: Final = 300
_SIMPLE: Final = frozenset({type(None), bool, int, str})
"""Most values are of these types, and are told as they are."""
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
"""The folders of installed packages, whichever of those that Python looks in."""


def said(value: Any) -> str | None:
    """Return a plain value in words; None for an object, and for what contains one. A long text ends in a digest."""
    try:
        text = repr(value) if type(value) in _SIMPLE else _named(value) or repr(_plain(value))
    except TypeError:
        return None
    return f"is {text if len(text) <= _LONGEST else f'{text[:_LONGEST]}... ({_digest(text.encode())})'}"


def has_values(tensor: Tensor) -> bool:
    """Return whether a tensor is dense and in memory: not sharded, not fake, not sparse, not on the meta device."""
    return type(tensor) in (Tensor, nn.Parameter) and kind_of(tensor) == "strided" and not tensor.is_meta


NOT_DENSE: Final = "holds values in "
"""Begins what values() says of a tensor that is not dense. Of one that is not sparse either it does not read them."""


def is_told(tensor: Tensor) -> bool:
    """Return whether values() tells of a tensor: also of one that is not dense."""
    return (type(tensor) in (Tensor, nn.Parameter) or tensor.is_nested) and not tensor.is_meta


def values(tensor: Tensor) -> str:
    """Return the dtype and a digest of a tensor in words; of a tensor that is not dense also its layout."""
    kind, dtype, data = kind_of(tensor), str(tensor.dtype).removeprefix("torch."), list[bytes]()
    if kind == "strided" or kind in SPARSE:
        data = [flat_bytes(part.cpu()).numpy().tobytes() for part in parts(tensor)]
    begin = "holds values" if kind == "strided" else f"{NOT_DENSE}{kind}"
    return f"{begin} of {dtype} {_digest(b''.join(data))}"


@dataclass
class Teller:
    """Tells what objects hold. ``configs``: also those of transformers, where no family compares them."""

    configs: bool
    _seen: dict[int, tuple[str, Any]] = field(default_factory=dict)

    def parts(
        self, place: str, value: Any, *, in_object: bool = False, depth: int = _DEEPEST
    ) -> Iterator[tuple[str, str]]:
        """Yield the places inside an attribute of a module, each with what is there.

        ``in_object``: whether an object holds it, where no attribute tells of a tensor.
        """
        # Most modules of a model hold its configuration, and each isinstance() of one runs Python code of the library.
        text = None if (config := _is_config(value)) else said(value)
        if config and not self.configs:
            return
        if text is not None:
            yield place, text
            for name, inner in surroundings(value) if depth else ():
                yield from self.parts(f"{place}{name}", inner, in_object=True, depth=depth - 1)
        elif isinstance(value, Tensor):
            if in_object and is_told(value):
                yield place, values(value)
        elif depth and not isinstance(value, nn.Module):
            yield from self._inside(place, value, in_object, depth)

    def _inside(self, place: str, value: Any, in_object: bool, depth: int) -> Iterator[tuple[str, str]]:
        items = _items(value)
        if items is None:
            if not self._is_told(value):
                return
            if id(value) in self._seen:
                yield place, f"is the same object as {self._seen[id(value)][0]}"
                return
            if fields(value) or not hasattr(value, "__dict__"):  # objects of Python without any are alike
                self._seen[id(value)] = place, value  # which keeps it, so that Python does not reuse its id
            yield place, f"is an object of {type(value).__module__}.{type(value).__qualname__}"
            # What an installed package hides in its objects are its caches.
            items, in_object = _fields(value, hidden=not (_is_config(value) or _is_installed(value))), True
        in_object = in_object or isinstance(value, partial)
        for name, inner in items:
            yield from self.parts(f"{place}{name}", inner, in_object=in_object, depth=depth - 1)

    def _is_told(self, value: Any) -> bool:
        package = type(value).__module__.partition(".")[0]
        if _is_config(value):
            return self.configs
        return isinstance(value, _RECORDS) or not (package in OBSERVERS or package in sys.stdlib_module_names)


def _is_config(value: Any) -> bool:
    """Whether an object is a configuration of transformers."""
    return hasattr(type(value), "model_type") and hasattr(value, "to_diff_dict")


def _is_installed(value: Any) -> bool:
    module = sys.modules.get(type(value).__module__)
    return not _INSTALLED.isdisjoint(Path(getattr(module, "__file__", None) or "").parts)


def _items(value: Any) -> Iterator[tuple[str, Any]] | None:
    """What a container holds, each with the end of its place; None for an object."""
    if isinstance(value, Mapping):
        return ((f"[{key}]", inner) for key, inner in value.items())
    if isinstance(value, list | tuple | deque):
        return ((f"[{number}]", inner) for number, inner in enumerate(value))
    if isinstance(value, partial):
        return ((f"({number})", inner) for number, inner in enumerate((value.func, value.args, value.keywords)))
    return None


def _fields(value: Any, *, hidden: bool) -> Iterator[tuple[str, Any]]:
    return ((f".{name}", inner) for name, inner in fields(value).items() if hidden or not name.startswith("_"))


def _named(value: Any) -> str | None:
    """What is told by its name: a function, a method or a class. A lambda is told by its code too."""
    if isinstance(value, types.MethodType):
        return f"the method {value.__func__.__module__}.{value.__func__.__qualname__}"
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType):
        name = f"the function {value.__module__}.{value.__qualname__}"
        if value.__name__ != "<lambda>" or not isinstance(value, types.FunctionType):
            return name
        code = value.__code__
        constants = [one for one in code.co_consts if not isinstance(one, types.CodeType)]
        return f"{name} {_digest(repr((code.co_code, constants, code.co_names)).encode())}"
    return f"the class {value.__module__}.{value.__qualname__}" if isinstance(value, type) else None


def _plain(value: Any) -> Any:
    """With lists for tuples, and whole numbers for floats that are such: a configuration may give them back so."""
    if isinstance(value, np.generic | Enum):
        return _plain(value.item() if isinstance(value, np.generic) else value.value)
    if isinstance(value, tuple | list | deque):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item) for item in value), key=repr)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in sorted(value.items(), key=lambda pair: str(pair[0]))}
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, bytes | complex | slice | range | torch.dtype):
        return repr(value)
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return f"array of {value.dtype} {value.shape} {_digest(value.tobytes())}"
    if isinstance(value, partial):
        return [_plain(value.func), _plain(value.args), _plain(value.keywords)]
    name = _named(value)
    if name is None:
        raise TypeError
    return name


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
