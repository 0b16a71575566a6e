"""numba as a compiler: from a kernel's source to an object file that needs no numba to run."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar, cast

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import NumbaError
from numba.extending import intrinsic

from lottapack.errors import UnsupportedError
from lottapack.rng.kernels.machine import target_machine

F = TypeVar("F", bound=Callable[..., object])


def jit(function: F) -> F:
    """A kernel's source, or that of a part of one: to be compiled, not called from Python.

    What it is made of calls nothing of numba's: no exception, no memory of its own (see space()), no wrapper.
    """
    alone = {"error_model": "numpy", "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(F, numba.njit(**alone)(function))


def space(count: int) -> Any:
    """An intrinsic that gives a kernel an array of ``count`` numbers on the stack, at the beginning of a cache line.

    Its argument says of which type: ``np.uint32``, or an array of the same. It is there until the kernel returns.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def on_the_stack(_: Any, like: Any) -> Any:
        kind = like.dtype if isinstance(like, types.Array | types.NumberClass) else like
        array = types.Array(kind, 1, "C")

        def generate(context: Any, builder: Any, *_: Any) -> Any:
            size = kind.bitwidth // 8
            memory = cgutils.alloca_once(builder, ir.ArrayType(context.get_data_type(kind), count))
            memory.align = 64
            made = context.make_array(array)(context, builder)
            one, number = context.get_constant(types.intp, size), context.get_constant(types.intp, count)
            data = builder.bitcast(memory, made.data.type)
            context.populate_array(made, data=data, shape=[number], strides=[one], itemsize=one, meminfo=None)
            return made._getvalue()

        return array(like), generate

    return on_the_stack


_HINT = "Report it with this version. Another one may do; or without numba, torch gives the same bits."

_TYPES = {
    "u64": types.uint64,
    "f32": types.float32,
    "u16[]": types.Array(types.uint16, 1, "C"),
    "u32[]": types.Array(types.uint32, 1, "C"),
    "i64[]": types.Array(types.int64, 1, "C"),
    "f32[]": types.Array(types.float32, 1, "C"),
    "f32[,]": types.Array(types.float32, 2, "C"),
}


def object_file(module: str, name: str, parameters: tuple[str, ...], symbol: str) -> bytes:
    """The machine code of a kernel, ``name`` in ``module``, as a function called ``symbol``."""
    return bytes(target_machine().emit_object(llvm_module(module, name, parameters, symbol)))


def llvm_module(module: str, name: str, parameters: tuple[str, ...], symbol: str) -> Any:
    """The same before it is machine code: a module of LLVM that needs no other."""
    kernel: Any = getattr(import_module(module), name)
    given = tuple(_TYPES[parameter] for parameter in parameters)
    try:
        kernel.compile(given)
    except NumbaError as fault:
        raise UnsupportedError(
            f"numba {numba.__version__} cannot compile {module}.{name}: {str(fault).splitlines()[0]}", hint=_HINT
        ) from fault
    unit = llvm.parse_assembly(kernel.inspect_llvm(given))
    unit.get_function(kernel.overloads[given].fndesc.llvm_func_name).name = symbol
    for part in (*unit.functions, *unit.global_variables):
        if not part.is_declaration and part.name != symbol:
            part.linkage = "internal"
        elif part.is_declaration and not part.name.startswith("llvm."):
            raise UnsupportedError(
                f"numba {numba.__version__} made code of {module}.{name} that needs its own {part.name}", hint=_HINT
            )
    return unit
