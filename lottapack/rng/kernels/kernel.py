"""Call compiled kernels on arrays and tensors. A running kernel does not hold the interpreter's lock.

This is the only module that takes and checks addresses: a Memory is made from an array or a tensor that describes its
own contents, and a Kernel only accepts memory of the types and sizes that it was declared with.
"""

import ctypes
import logging
import math
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
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
_BITS: Final[dict[np.dtype[Any], str]] = {np.dtype(np.uint16): "u16", np.dtype(np.uint32): "u32"}
_FUNCTION: Final = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
"""The C signature of a kernel: addresses of the result, of the exception and of the arguments."""
_EXCEPTION: Final = ctypes.byref(ctypes.c_void_p())
"""The place for exceptions. Nothing reads it, so all calls share it."""
DONE: Final = (0, -2)
"""The return codes of success: numba's codes for a number and for nothing."""

_lock = threading.Lock()


@cache
def _kinds() -> dict[Any, np.dtype[Any]]:
    """Return the kernels' types by dtype. torch is loaded if a tensor exists."""
    torch = sys.modules["torch"]
    return {torch.float32: np.dtype(np.float32), torch.bfloat16: np.dtype(np.uint16)}


class Memory:
    """Contiguous numbers with their owner, as kernels take them. Create one by of(), of_tensor() or part() only.

    Reusing a Memory saves time: asking a NumPy array for its address takes as long as two kernel calls.
    """

    __slots__ = ("address", "dtype", "owner", "shape", "writable")

    def __init__(
        self, address: int, dtype: np.dtype[Any], shape: tuple[int, ...], owner: object, writable: bool
    ) -> None:
        self.address, self.dtype, self.shape, self.owner, self.writable = address, dtype, shape, owner, writable

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> "Memory":
        """Return the memory of an array. Raises TypeError if it is not contiguous."""
        if not array.flags.c_contiguous:
            raise TypeError(f"an array with strides {array.strides} is not contiguous")
        return cls(array.ctypes.data, array.dtype, array.shape, array, array.flags.writeable)

    @classmethod
    def of_tensor(cls, tensor: "torch.Tensor") -> "Memory":
        """Return the memory of a contiguous CPU tensor of float32, or the bits of one of bfloat16.

        Raises TypeError for other tensors, UnsupportedError if the memory was freed.
        """
        kind = _kinds().get(tensor.dtype)
        if kind is None or not tensor.is_cpu or not tensor.is_contiguous():
            raise TypeError(
                f"a tensor of {tensor.dtype} on {tensor.device} with strides {tensor.stride()} is not contiguous "
                "float32 or bfloat16 on the CPU"
            )
        require_memory(tensor)
        return cls(tensor.data_ptr(), kind, tuple(tensor.shape), tensor, True)

    @property
    def size(self) -> int:
        """The number of numbers."""
        return math.prod(self.shape)

    def part(self, begin: int, end: int) -> "Memory":
        """Return numbers ``begin`` to ``end - 1`` of one-dimensional memory."""
        if not 0 <= begin <= end <= self.shape[0] or len(self.shape) != 1:
            raise IndexError(f"{begin} to {end} is not a part of memory of shape {self.shape}")
        return Memory(self.address + begin * self.dtype.itemsize, self.dtype, (end - begin,), self.owner, self.writable)


def failed(name: str) -> UnsupportedError:
    """Return the error of a kernel whose code reports one."""
    return UnsupportedError(
        f"the kernel {name} failed", hint="Report this, with the versions of lottapack, numba and llvmlite."
    )


class Kernel:
    """A kernel that is loaded or compiled at its first call.

    Args:
        module: the module with its source.
        name: the name of its function there.
        parameters: the types of its parameters, such as ``"=bits[] f32[] u64 f32"``. Arrays are contiguous: ``i64[]``
            has one dimension, ``f32[,]`` two. ``bits[]`` is ``u32[]`` or ``u16[]``, the same throughout a call; the
            kernel has one form for each. A ``=`` marks an array that the kernel writes.
        fits: a check of the arguments, with arrays as Memory: whether sizes and settings agree, so that the kernel
            neither reads nor writes beyond an array.
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
        """Call the kernel with arrays (or Memory) and numbers; return an unsigned 64-bit number, or 0.

        Raises TypeError for arrays of other types, UnsupportedError if the kernel cannot be compiled or fails.
        """
        function, packed = self.prepared(*arguments)
        result = ctypes.c_uint64(0)
        if function(ctypes.byref(result), _EXCEPTION, packed) not in DONE:
            raise failed(self.name)
        return result.value

    def prepared(self, *arguments: Any) -> tuple[Callable[..., int], bytes]:
        """Check the arguments of a call; return the function and what it is called with. Raises as a call does."""
        given, found, bits = list(arguments), list(arguments), None
        for array in self._arrays:  # last first, so that the indices of the others stay valid
            memory = given[array.place]
            if type(memory) is not Memory:
                memory = Memory.of(memory)
            if (kind := array.dtype) is None:
                kind = bits = bits or memory.dtype
            if memory.dtype != kind or len(memory.shape) != array.dimensions or (bits is kind and kind not in _BITS):
                raise TypeError(
                    f"{self.name}: cannot take {memory.dtype} of shape {memory.shape}; it takes {self.parameters}"
                )
            found[array.place] = memory
            given[array.place : array.place + 1] = memory.address, *memory.shape
        packed = self._pack(*given)  # refuses numbers below 0 and too many arguments
        if not self._fits(*found) or not all(found[place].writable for place in self._written):
            raise TypeError(f"{self.name}: the sizes and settings {', '.join(map(str, given))} do not agree")
        return self._forms.get(bits) or self._form(bits), packed

    def offset(self, place: int) -> int:
        """Return the number of eight bytes before those of a parameter: an array's address, or a number."""
        return sum(1 if kind in _SCALARS else 2 + kind.count(",") for kind in self.parameters[:place])

    @staticmethod
    def address(function: Callable[..., int]) -> int:
        """Return the address of a function that prepared() returned."""
        return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]

    def prepare(self, bits: np.dtype[Any] | None = None) -> None:
        """Load or compile the kernel. Raises UnsupportedError if it cannot be compiled."""
        self._form(bits)

    def compiled(self) -> Iterator[tuple[str, bytes]]:
        """Compile all forms of the kernel; yield the name and the object file of each."""
        forms: tuple[np.dtype[Any] | None, ...] = (*_BITS,) if "bits[]" in self.parameters else (None,)
        for bits in forms:
            name = self._symbol(bits)
            yield name, self._compiled(bits, name)

    def _symbol(self, bits: np.dtype[Any] | None) -> str:
        return self.name if bits is None else f"{self.name}-{_BITS[bits]}"

    def _form(self, bits: np.dtype[Any] | None) -> Callable[..., int]:
        """Return the function for one type of ``bits[]``, or the only one if the kernel does not take bits."""
        try:
            from lottapack.rng.kernels import machine, object_files, shipped
        except ImportError as fault:
            raise UnsupportedError(
                f"the kernel {self.name!r} needs llvmlite, which cannot be imported ({fault})",
                hint="Run `pip install numba`. Without it, torch or NumPy does the work.",
            ) from fault
        with _lock:
            if bits not in self._forms:
                name = self._symbol(bits)
                code = shipped.read(name, self.module) or object_files.read(name, self.module)
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
                f"the kernel {symbol!r} is not compiled yet, and numba cannot be imported ({fault})",
                hint="Run `pip install numba`. Without it, torch does the work.",
            ) from fault
        _log.info("compiling the kernel %s; its machine code is kept for the next time", symbol)
        types = self.parameters
        if bits is not None:
            types = tuple(_BITS[bits] + "[]" if kind == "bits[]" else kind for kind in types)
        return compiler.object_file(self.module, self.name, types, symbol)


class _Array:
    """An array parameter. ``dtype``: None for bits."""

    __slots__ = ("dimensions", "dtype", "place")

    def __init__(self, place: int, parameter: str) -> None:
        element, _, rest = parameter.partition("[")
        self.place, self.dimensions = place, rest.count(",") + 1
        self.dtype = None if element == "bits" else np.dtype(_ELEMENTS[element])
