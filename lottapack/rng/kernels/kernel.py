"""A kernel as callers see it: a function of machine code on NumPy arrays. It holds no lock while it runs."""

import ctypes
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from lottapack.errors import UnsupportedError
from lottapack.rng.kernels import machine, object_files

_SCALARS: Final = {"u64": ctypes.c_uint64, "f32": ctypes.c_float}
_ELEMENTS: Final = {"u16": np.uint16, "u32": np.uint32, "i64": np.int64, "f32": np.float32}
_BITS: Final = {np.dtype(np.uint16): "u16", np.dtype(np.uint32): "u32"}
_NONE: Final = np.dtype(np.void)

_lock = threading.Lock()


class Kernel:
    """A kernel, compiled or loaded when it is first called.

    Args:
        module: where its source is.
        name: of the function there.
        parameters: their types, as ``"bits[] f32[] u64 f32"``. Arrays are contiguous: ``i64[]`` of one dimension,
            ``f32[,]`` of two. ``bits[]`` is ``u32[]`` or ``u16[]``, the same for all of a call; there is a form of the
            kernel for each.
    """

    def __init__(self, module: str, name: str, parameters: str) -> None:
        self.module, self.name, self.parameters = module, name, tuple(parameters.split())
        self._arrays = [None if kind in _SCALARS else _array(kind) for kind in self.parameters]
        self._forms: dict[np.dtype[Any] | None, Callable[..., int]] = {}

    def __call__(self, *arguments: Any) -> int:
        """Call it; returns what it returns, an unsigned number of 64 bits, or 0."""
        given: list[Any] = []
        bits = None
        for argument, array in zip(arguments, self._arrays, strict=True):
            if array is None:
                given.append(argument)
                continue
            if (kind := array.dtype) is None:
                kind = bits = bits or (argument.dtype if argument.dtype in _BITS else _NONE)
            if argument.dtype != kind or argument.ndim != array.dimensions or not argument.flags.c_contiguous:
                raise TypeError(f"{self.name}: {argument.dtype}, shape {argument.shape}, among {self.parameters}")
            address, size, item = argument.ctypes.data, argument.size, argument.itemsize
            given += (None, None, size, item, address, *argument.shape, *argument.strides)
        function = self._forms.get(bits) or self._form(bits)
        result = ctypes.c_uint64(0)
        function(ctypes.byref(result), None, *given)
        return result.value

    def prepare(self, bits: np.dtype[Any] | None = None) -> None:
        """Load it, or compile it. Raises UnsupportedError if it must be compiled and that cannot be done."""
        self._form(bits)

    def _form(self, bits: np.dtype[Any] | None) -> Callable[..., int]:
        """The function for one type of ``bits[]``; it is the only one where a kernel takes none."""
        with _lock:
            if bits not in self._forms:
                name = self.name if bits is None else f"{self.name}-{_BITS[bits]}"
                code = object_files.read(name, self.module)
                if code is None:
                    code = self._compiled(bits, name)
                    object_files.write(name, self.module, code)
                self._forms[bits] = self._prototype()(machine.load(code, name))
            return self._forms[bits]

    def _compiled(self, bits: np.dtype[Any] | None, symbol: str) -> bytes:
        try:
            from lottapack.rng.kernels import compiler
        except ImportError as fault:
            raise UnsupportedError(
                f"numba cannot be imported ({fault}), and the kernel {symbol!r} is not compiled yet",
                hint="`pip install numba` restores it. Without numba and any compiled kernel, torch does the work.",
            ) from fault
        types = self.parameters
        if bits is not None:
            types = tuple(_BITS[bits] + "[]" if kind == "bits[]" else kind for kind in types)
        return compiler.object_file(self.module, self.name, types, symbol)

    def _prototype(self) -> Any:
        """As numba calls it: a place for the result, one for an exception (there are none), and the arguments.

        An array takes several: two owners (it has none), elements, bytes of one, address, shape and strides.
        """
        pointer, number = ctypes.c_void_p, ctypes.c_ssize_t
        kinds: list[Any] = [pointer, pointer]
        for parameter, array in zip(self.parameters, self._arrays, strict=True):
            if array is None:
                kinds.append(_SCALARS[parameter])
            else:
                kinds += [pointer, pointer, number, number, pointer, *[number] * (2 * array.dimensions)]
        return ctypes.CFUNCTYPE(ctypes.c_int32, *kinds)


class _Array(NamedTuple):
    dtype: np.dtype[Any] | None
    """None: bits."""
    dimensions: int


def _array(parameter: str) -> _Array:
    element, _, rest = parameter.partition("[")
    return _Array(None if element == "bits" else np.dtype(_ELEMENTS[element]), rest.count(",") + 1)
