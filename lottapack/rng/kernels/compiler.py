"""Use numba as a compiler: turn a kernel's source into an object file that runs without numba."""

import re
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
from lottapack.rng.kernels.machine import processor, target_machine

F = TypeVar("F", bound=Callable[..., object])


def jit(function: F) -> F:
    """Mark a kernel's source, or a part of one, for the compiler; it cannot be called from Python.

    The compiled code does not call numba: it catches no exceptions, allocates no memory (see space()) and has no
    wrapper.
    """
    alone = {"error_model": "numpy", "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(F, numba.njit(**alone)(function))


def space(count: int) -> Any:
    """Return an intrinsic that gives a kernel an array of ``count`` numbers on the stack, aligned to a cache line.

    The intrinsic's argument gives the type: ``np.uint32``, or an array of that type. The array exists until the kernel
    returns.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def on_the_stack(_: Any, like: Any) -> Any:
        kind = like.dtype
        array = types.Array(kind, 1, "C")

        def generate(context: Any, builder: Any, *_: Any) -> Any:
            memory = cgutils.alloca_once(builder, ir.ArrayType(context.get_data_type(kind), count))
            memory.align = 64
            address = builder.ptrtoint(memory, ir.IntType(64))
            return _array(context, builder, array, address, [context.get_constant(types.intp, count)])

        return array(like), generate

    return on_the_stack


_HINT = "Report this with the numba version. Try another version, or uninstall numba: torch then gives the same bits."

_TYPES = {
    "u64": types.uint64,
    "f32": types.float32,
    "u16[]": types.Array(types.uint16, 1, "C"),
    "u32[]": types.Array(types.uint32, 1, "C"),
    "u8[]": types.Array(types.uint8, 1, "C"),
    "i32[]": types.Array(types.int32, 1, "C"),
    "i64[]": types.Array(types.int64, 1, "C"),
    "f32[]": types.Array(types.float32, 1, "C"),
    "f32[,]": types.Array(types.float32, 2, "C"),
}


def object_file(module: str, name: str, parameters: tuple[str, ...], symbol: str) -> bytes:
    """Compile the kernel ``name`` of ``module`` to machine code, as a function called ``symbol``.

    The function takes numba's three arguments: addresses of the result, of the exception and of the kernel's own
    arguments. Those are eight bytes each: numbers, and for an array its address and shape.
    """
    machine = target_machine()
    return bytes(machine.emit_object(_retargeted(llvm_module(module, name, parameters, symbol), machine)))


def llvm_module(module: str, name: str, parameters: tuple[str, ...], symbol: str) -> Any:
    """Compile the kernel to a module of LLVM that needs no other module."""
    entry: Any = _entry(getattr(import_module(module), name), [_TYPES[parameter] for parameter in parameters])
    given = (types.uint64,)
    try:
        entry.compile(given)
    except NumbaError as fault:
        raise UnsupportedError(
            f"numba {numba.__version__} cannot compile {module}.{name}: {' '.join(str(fault).split())}", hint=_HINT
        ) from fault
    # Without alignment of the stack, every other vector of AVX2 that is kept there would lie in two cache lines.
    unit = llvm.parse_assembly(re.sub(r"(?m)^(define .*\S) {$", r'\1 "stackrealign" {', entry.inspect_llvm(given)))
    unit.get_function(entry.overloads[given].fndesc.llvm_func_name).name = symbol
    for part in (*unit.functions, *unit.global_variables):
        if not part.is_declaration and part.name != symbol:
            part.linkage = "internal"
        elif part.is_declaration and not part.name.startswith("llvm."):
            raise UnsupportedError(
                f"numba {numba.__version__} compiled {module}.{name} to code that needs numba's {part.name}", hint=_HINT
            )
    return unit


def _retargeted(unit: Any, machine: Any) -> Any:
    """Return a module for the processor that code is compiled for, whose architecture may be another than numba's.

    Then it is optimised again, by what LLVM knows of that architecture. hatch_build.py lets numba leave loops alone.
    """
    triple, layout = processor().triple, str(machine.target_data)
    if unit.triple.partition("-")[0] == triple.partition("-")[0]:
        return unit
    text = re.sub(r'(?m)^target triple = ".*"$', f'target triple = "{triple}"', str(unit))
    text = re.sub(r'(?m)^target datalayout = ".*"$', f'target datalayout = "{layout}"', text)
    text = re.sub(r' "target-(?:cpu|features)"="[^"]*"', "", text)
    other = llvm.parse_assembly(text)
    other.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(other, passes)
    return other


def _entry(kernel: Any, kinds: list[Any]) -> Any:
    """Return a function that loads a kernel's arguments from memory and calls the kernel."""

    @intrinsic  # type: ignore[untyped-decorator]
    def arguments(_: Any, address: Any) -> Any:
        found = types.Tuple(kinds)

        def generate(context: Any, builder: Any, _: Any, given: Any) -> Any:
            places = builder.inttoptr(given[0], ir.IntType(64).as_pointer())
            values, at = [], 0
            for kind in kinds:
                place = builder.gep(places, [ir.IntType(64)(at)])
                if isinstance(kind, types.Array):
                    dimensions = [builder.load(builder.gep(place, [ir.IntType(64)(1 + n)])) for n in range(kind.ndim)]
                    values.append(_array(context, builder, kind, builder.load(place), dimensions))
                    at += kind.ndim
                else:
                    values.append(builder.load(builder.bitcast(place, context.get_data_type(kind).as_pointer())))
                at += 1
            return context.make_tuple(builder, found, values)

        return found(address), generate

    @jit
    def entry(address: Any) -> Any:
        return kernel(*arguments(address))

    return entry


def _array(context: Any, builder: Any, kind: Any, address: Any, shape: list[Any]) -> Any:
    """Build an array of contiguous numbers at an address, which it does not own."""
    made = context.make_array(kind)(context, builder)
    size = context.get_constant(types.intp, kind.dtype.bitwidth // 8)
    strides = [size]
    for dimension in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], dimension))
    data = builder.inttoptr(address, made.data.type)
    context.populate_array(made, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None)
    return made._getvalue()
