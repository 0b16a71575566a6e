"""A kernel as callers see it: a function of machine code on numbers in memory. It holds no lock while it runs.

This is the one place where addresses come from, and where they are checked: a Memory is made of an array or a tensor
that says itself what it holds, and a Kernel takes only what has the types and sizes that it was declared with.
"""

import ctypes
import logging
import math
import struct
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lottapack.errors import UnsupportedError
from lottapack.rng.storages import require_memory

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

_SCALARS: Final = {"u64": "Q", "f32": "f4x"}
_ELEMENTS: Final = {
    "u8": np.uint8,
    "u16": np.uint16,
    "u32": np.uint32,
    "i32": np.int32,
    "i64": np.int64,
    "f32": np.float32,
}
_FLOAT32: Final = np.dtype(np.float32)
_BITS: Final = {np.dtype(np.uint16): "u16", np.dtype(np.uint32): "u32"}
_FUNCTION: Final = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
"""As numba calls one: where to put the result, where an exception, and the arguments' address."""
_EXCEPTION: Final = ctypes.byref(ctypes.c_void_p())
"""Nobody reads it, and so all calls share the place."""
_DONE: Final = (0, -2)
"""What it then returns: numba's codes for a number and for nothing."""

_lock = threading.Lock()


def _torch() -> Any:
    """torch, which whoever has a tensor has imported: asked for so, it takes a tenth of the time of importing it."""
    return sys.modules["torch"]


class Memory:
    """Contiguous numbers, as a kernel takes them, and who owns them: made by of(), of_tensor() and part() only.

    To ask a NumPy array for its address takes as long as two calls.
    """

    __slots__ = ("address", "dtype", "owner", "shape", "writable")

    def __init__(
        self, address: int, dtype: np.dtype[Any], shape: tuple[int, ...], owner: object, writable: bool
    ) -> None:
        self.address, self.dtype, self.shape, self.owner, self.writable = address, dtype, shape, owner, writable

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> "Memory":
        """An array's. Raises TypeError if it is not contiguous."""
        if not array.flags.c_contiguous:
            raise TypeError(f"strides of {array.strides}, where numbers must be contiguous")
        return cls(array.ctypes.data, array.dtype, array.shape, array, array.flags.writeable)

    @classmethod
    def of_tensor(cls, tensor: "torch.Tensor") -> "Memory":
        """A tensor's, of float32 on a CPU. Raises TypeError if it is another, UnsupportedError as require_memory()."""
        if tensor.dtype is not _torch().float32 or not tensor.is_cpu or not tensor.is_contiguous():
            raise TypeError(f"a tensor of {tensor.dtype} on {tensor.device}, strides {tensor.stride()}")
        require_memory(tensor)
        return cls(tensor.data_ptr(), _FLOAT32, tuple(tensor.shape), tensor, True)

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return math.prod(self.shape)

    def part(self, begin: int, end: int) -> "Memory":
        """Numbers ``begin`` to ``end - 1`` of one dimension."""
        if not 0 <= begin <= end <= self.shape[0] or len(self.shape) != 1:
            raise IndexError(f"{begin} to {end} of {self.shape}")
        return Memory(self.address + begin * self.dtype.itemsize, self.dtype, (end - begin,), self.owner, self.writable)


class Kernel:
    """A kernel, compiled or loaded when it is first called.

    Args:
        module: where its source is.
        name: of the function there.
        parameters: their types, as ``"=bits[] f32[] u64 f32"``. Arrays are contiguous: ``i64[]`` of one dimension,
            ``f32[,]`` of two. ``bits[]`` is ``u32[]`` or ``u16[]``, the same for all of a call; there is a form of the
            kernel for each. What is written has a ``=`` before it.
        fits: of the arguments, arrays as their Memory: whether sizes and settings agree, so that the kernel neither
            reads nor writes beyond an array.
    """

    def __init__(self, module: str, name: str, parameters: str, fits: Callable[..., bool] = lambda *_: True) -> None:
        listed = parameters.split()
        self.module, self.name, self.parameters = module, name, tuple(kind.removeprefix("=") for kind in listed)
        self._fits, self._written = fits, tuple(place for place, kind in enumerate(listed) if kind.startswith("="))
        self._arrays = [_Array(*found) for found in enumerate(self.parameters) if found[1] not in _SCALARS][::-1]
        places = [_SCALARS.get(kind, "Q" * (2 + kind.count(","))) for kind in self.parameters]
        self._pack = struct.Struct("=" + "".join(places)).pack
        self._forms: dict[np.dtype[Any] | None, Callable[..., int]] = {}

    def __call__(self, *arguments: Any) -> int:
        """Call it with arrays, or their Memory, and numbers; returns an unsigned number of 64 bits, or 0.

        Raises TypeError for arrays of other types; UnsupportedError if it cannot be compiled, or fails.
        """
        given, found, bits = list(arguments), list(arguments), None
        for array in self._arrays:  # from the last on, so that the places of the others stay
            memory = given[array.place]
            if type(memory) is not Memory:
                memory = Memory.of(memory)
            if (kind := array.dtype) is None:
                kind = bits = bits or memory.dtype
            if memory.dtype != kind or len(memory.shape) != array.dimensions or (bits is kind and kind not in _BITS):
                raise TypeError(f"{self.name}: {memory.dtype}, shape {memory.shape}, among {self.parameters}")
            found[array.place] = memory
            given[array.place : array.place + 1] = memory.address, *memory.shape
        packed = self._pack(*given)  # refuses numbers below 0 and too many arguments
        if not self._fits(*found) or not all(found[place].writable for place in self._written):
            raise TypeError(f"{self.name}: {', '.join(map(str, given))} are sizes and settings that do not agree")
        function = self._forms.get(bits) or self._form(bits)
        result = ctypes.c_uint64(0)
        if function(ctypes.byref(result), _EXCEPTION, packed) not in _DONE:
            raise UnsupportedError(f"the kernel {self.name} failed", hint="Report it, with these versions of all.")
        return result.value

    def prepare(self, bits: np.dtype[Any] | None = None) -> None:
        """Load it, or compile it. Raises UnsupportedError if it must be compiled and that cannot be done."""
        self._form(bits)

    def _form(self, bits: np.dtype[Any] | None) -> Callable[..., int]:
        """The function for one type of ``bits[]``; it is the only one where a kernel takes none."""
        try:
            from lottapack.rng.kernels import machine, object_files
        except ImportError as fault:
            raise UnsupportedError(
                f"llvmlite cannot be imported ({fault}), and the kernel {self.name!r} needs it",
                hint="`pip install numba` restores it. Without it torch or NumPy does the work.",
            ) from fault
        with _lock:
            if bits not in self._forms:
                name = self.name if bits is None else f"{self.name}-{_BITS[bits]}"
                code = object_files.read(name, self.module)
                if code is None:
                    code = self._compiled(bits, name)
                    object_files.write(name, self.module, code)
                self._forms[bits] = _FUNCTION(machine.load(code, name))
            return self._forms[bits]

    def _compiled(self, bits: np.dtype[Any] | None, symbol: str) -> bytes:
        try:
            from lottapack.rng.kernels import compiler
        except ImportError as fault:
            raise UnsupportedError(
                f"numba cannot be imported ({fault}), and the kernel {symbol!r} is not compiled yet",
                hint="`pip install numba` restores it. Without numba and any compiled kernel, torch does the work.",
            ) from fault
        _log.info("compiling the kernel %s; its machine code is kept for the next time", symbol)
        types = self.parameters
        if bits is not None:
            types = tuple(_BITS[bits] + "[]" if kind == "bits[]" else kind for kind in types)
        return compiler.object_file(self.module, self.name, types, symbol)


class _Array:
    """A parameter that is one. ``dtype``: None for bits."""

    __slots__ = ("dimensions", "dtype", "place")

    def __init__(self, place: int, parameter: str) -> None:
        element, _, rest = parameter.partition("[")
        self.place, self.dimensions = place, rest.count(",") + 1
        self.dtype = None if element == "bits" else np.dtype(_ELEMENTS[element])
