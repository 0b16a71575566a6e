"""Control torch while a module is built: the device, the dtype and the random numbers.

Modes apply to their own thread only, unlike torch's defaults, its global generator, and patches of its functions.
"""

from collections.abc import Callable, Collection, Mapping
from math import prod
from typing import Any, Final

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from lottapack.arch.account import Account, tensors_in

_UNINITIALISED: Final = {torch.empty, torch.empty_strided, torch.empty_permuted}
_RANDOM: Final = {torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal}
_RANDOM_OF: Final = {
    torch.bernoulli,
    torch.multinomial,
    torch.poisson,
    torch.Tensor.bernoulli,
    torch.Tensor.multinomial,
}
_DRAWS: Final = {
    torch.Tensor.normal_,
    torch.Tensor.uniform_,
    torch.Tensor.bernoulli_,
    torch.Tensor.random_,
    torch.Tensor.exponential_,
    torch.Tensor.cauchy_,
    torch.Tensor.log_normal_,
    torch.Tensor.geometric_,
}
_INITIALISERS: Final = {
    "uniform_",
    "normal_",
    "trunc_normal_",
    "xavier_uniform_",
    "xavier_normal_",
    "kaiming_uniform_",
    "kaiming_normal_",
    "orthogonal_",
    "sparse_",
}
_OF_INITIALISERS: Final = ("torch.nn.init", "transformers.initialization")
"""By name, because transformers replaces these in torch's module while it initialises a model, for all threads."""
_OF_ONE_VALUE: Final = {torch.zeros, torch.ones, torch.full}
_OF_DATA: Final = {torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor}
_CREATE: Final = frozenset(_device_constructors())
_APART: Final = {
    torch.Tensor.__iter__,
    torch.Tensor.unbind,
    torch.Tensor.split,
    torch.Tensor.split_with_sizes,
    torch.Tensor.chunk,
    torch.Tensor.tensor_split,
    torch.unbind,
    torch.split,
    torch.chunk,
    torch.tensor_split,
}
_LISTS: Final = {torch.Tensor.tolist}
_MOVES: Final = {torch.Tensor.to, torch.Tensor.cpu}
_CASTS: Final = {
    torch.Tensor.to,
    torch.Tensor.type,
    torch.Tensor.type_as,
    torch.Tensor.view,
    torch.Tensor.double,
    torch.Tensor.float,
    torch.Tensor.half,
    torch.Tensor.bfloat16,
}
_POINTWISE: Final = {
    getattr(torch.Tensor, name)
    for name in (
        *("add", "sub", "mul", "div", "pow", "neg", "sin", "cos", "exp", "log", "sqrt", "float", "double", "long"),
        *("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__"),
        *("__pow__", "__rpow__", "__neg__", "__floordiv__", "reciprocal", "clone", "contiguous"),
    )
} | {torch.sin, torch.cos, torch.exp, torch.pow, torch.mul, torch.add, torch.div}
"""Operations that do not create a large tensor from two small ones."""
_SMALL: Final = 1024
"""Elements."""
_FREE: Final = ("__get__", "__set__", "__delete__", "size", "dim", "numel", "stride", "is_floating_point", "__len__")
_FLOAT: Final = torch.float32


def _size(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the shape passed to zeros(), ones() or full() in any of their forms; None if it is not plain."""
    first = args[0] if args else kwargs.get("size")
    numbers = args if isinstance(first, int) else first
    if isinstance(numbers, list | tuple) and all(isinstance(number, int) for number in numbers):
        return tuple(numbers)
    return None


def _itemsize(dtype: Any) -> int:
    """Return the bytes of an element of a torch or Python type; without a type, the most that it can have."""
    return dtype.itemsize if isinstance(dtype, torch.dtype) else 1 if dtype is bool else torch.int64.itemsize


def _draws(func: Callable[..., Any]) -> bool:
    """Return whether a function fills a tensor with random numbers."""
    return func in _DRAWS or (
        getattr(func, "__name__", "") in _INITIALISERS and getattr(func, "__module__", "") in _OF_INITIALISERS
    )


def _is_free(func: Callable[..., Any]) -> bool:
    """Return whether a function allocates nothing: it reads a property, or works in place."""
    name = getattr(func, "__name__", "")
    return name in _FREE or (name.endswith("_") and not name.endswith("__"))


class WithoutWeights(TorchFunctionMode):
    """Does not draw numbers or allocate tensors, except for those that ``computed`` or ``memory`` enable.

    ``computed``: make tensors real if their numbers follow from the arguments; not those that are uninitialised or
    random, nor those of one value and a shape of ``weights`` or more than ``most`` elements. ``memory``: make
    uninitialised ones of other shapes real too, for libraries that fill them afterwards.
    """

    def __init__(
        self,
        account: Account,
        *,
        computed: bool = False,
        memory: bool = False,
        weights: Collection[tuple[int, ...]] = (),
        most: int | None = None,
    ) -> None:
        super().__init__()
        self.account, self.most = account, most
        self.to_meta = _RANDOM if memory else _RANDOM | _UNINITIALISED
        self.weights = weights
        self.device = "cpu" if computed or memory else "meta"
        self.foreign_dtype = torch.get_default_dtype() is not _FLOAT

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if _draws(func):
            return args[0] if args else kwargs["tensor"]
        if _is_free(func):
            return func(*args, **kwargs)
        if func in _MOVES and args[0].is_meta:
            return args[0] if func is torch.Tensor.cpu else _moved(*args, **kwargs)
        if func in _CREATE:
            self.account.count()
            plain = func in _OF_ONE_VALUE or func in _UNINITIALISED
            if func in self.to_meta or (plain and self._is_weight(_size(args, kwargs))):
                kwargs["device"] = "meta"
            elif kwargs.get("device") is None:
                kwargs["device"] = self._default(func, args)
            if kwargs["device"] == "meta" and not self.foreign_dtype:
                return func(*args, **kwargs)
        return _computed(self.account, func, args, kwargs, foreign_dtype=self.foreign_dtype)

    def _is_weight(self, size: tuple[int, ...] | None) -> bool:
        return size in self.weights or (self.most is not None and size is not None and prod(size) > self.most)

    def _default(self, func: Any, args: Any) -> str:
        # transformers creates an empty tensor to learn the device: on meta it skips walking all modules to initialise
        # them.
        return "meta" if func is torch.tensor and args and type(args[0]) is list and not args[0] else self.device


def _moved(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Return what to() makes of a tensor without values: one that has none either, on whatever device.

    Initialisers draw on the CPU: ``data.copy_(data.cpu().normal_().to(data.device))``.
    """
    other = kwargs.get("other", args[0] if args else None)
    if isinstance(other, torch.Tensor):
        return tensor.to(other.dtype)
    if args and not isinstance(other, torch.dtype):
        args = ("meta", *args[1:])
    if "device" in kwargs:
        kwargs["device"] = "meta"
    return tensor.to(*args, **kwargs)


class Drawing(TorchFunctionMode):
    """Takes random numbers from its own generator, and creates tensors in float32 on the CPU by default."""

    def __init__(self, account: Account, seed: int) -> None:
        super().__init__()
        self.account = account
        self.generator = torch.Generator("cpu").manual_seed(seed)
        self.foreign_dtype = torch.get_default_dtype() is not _FLOAT

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if _draws(func) or func in _RANDOM or func in _RANDOM_OF:
            if kwargs.get("generator") is None:
                kwargs["generator"] = self.generator
        elif _is_free(func):
            return func(*args, **kwargs)
        if func in _CREATE:
            self.account.count()
            if kwargs.get("device") is None:
                kwargs["device"] = "cpu"
        return _in_float32(func, args, kwargs) if self.foreign_dtype else func(*args, **kwargs)


def _computed(account: Account, func: Any, args: Any, kwargs: dict[str, Any], *, foreign_dtype: bool) -> Any:
    """Call a function; if it makes numbers, check first that there is memory for them."""
    inputs = list(tensors_in((args, kwargs)))
    if func in _APART and inputs:
        account.expect_objects(inputs[0])
    real = [tensor for tensor in inputs if tensor.device.type != "meta"]
    if func in _POINTWISE and len(inputs) <= 2 and all(tensor.numel() <= _SMALL for tensor in inputs):
        return _noted(account, func, args, kwargs, foreign_dtype)
    if func in _CREATE:
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "meta":
            real = []
        elif func not in _OF_DATA:  # whose data already exist
            size = _size(args, kwargs) if func in _OF_ONE_VALUE else None
            if size is None:
                account.expect_result(func, args, kwargs, [])
            else:
                account.expect(_itemsize(kwargs.get("dtype")) * prod(size))
            return _noted(account, func, args, kwargs, foreign_dtype)
    if not real and func not in _CREATE:
        return _in_float32(func, args, kwargs) if foreign_dtype else func(*args, **kwargs)
    if func in _LISTS and real:
        account.expect_numbers(real[0])
    elif real:
        account.expect_result(func, args, kwargs, real)
    return _noted(account, func, args, kwargs, foreign_dtype)


def _noted(account: Account, func: Any, args: Any, kwargs: dict[str, Any], foreign_dtype: bool) -> Any:
    result = _in_float32(func, args, kwargs) if foreign_dtype else func(*args, **kwargs)
    account.note(result)
    return result


def _in_float32(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Return what a function would give if the default dtype of this process were float32.

    The default dtype applies if no argument has a floating dtype, so a floating argument is passed.
    """
    result = func(*args, **kwargs)
    foreign = isinstance(result, torch.Tensor) and result.dtype == torch.get_default_dtype()
    if not foreign or func in _CASTS or kwargs.get("dtype") is not None:
        return result
    inputs = list(tensors_in((args, kwargs)))
    if any(tensor.is_floating_point() or tensor.is_complex() for tensor in inputs):
        return result
    if any(isinstance(value, torch.dtype) for value in args):
        return result
    if func in _CREATE:
        return result if func in _OF_DATA and not _plain(args) else func(*args, **{**kwargs, "dtype": _FLOAT})
    if not inputs:
        return result
    floats = {id(tensor): tensor.to(_FLOAT) for tensor in inputs}
    swap = torch.utils._pytree.tree_map_only
    given_args, given_kwargs = swap(torch.Tensor, lambda tensor: floats[id(tensor)], (args, kwargs))
    return func(*given_args, **given_kwargs)


def _plain(args: Any) -> bool:
    """Return whether data are Python numbers, which get the default dtype; NumPy numbers have their own."""
    first = args[0] if args else None
    while isinstance(first, list | tuple) and first:
        first = first[0]
    return type(first) in (float, int, bool)
