"""Write vector code in LLVM for the bodies of numba's intrinsics."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils


def order(places: Iterable[int]) -> Any:
    """Return the constant by which LLVM shuffles lanes into this order."""
    listed = list(places)
    return ir.Constant(ir.VectorType(ir.IntType(32), len(listed)), listed)


class Vectors:
    """Writes the body of an intrinsic. Values are LLVM values with ``lanes`` numbers in each vector."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any, lanes: int) -> None:
        self.context, self.builder, self.types, self.arguments = context, builder, signature.args, arguments
        self.lanes = lanes
        self.f32, self.u32 = ir.VectorType(ir.FloatType(), lanes), ir.VectorType(ir.IntType(32), lanes)

    def every(self, value: Any, kind: Any) -> Any:
        """Return a constant in all lanes of a vector type."""
        return ir.Constant(kind, [ir.Constant(kind.element, value)] * self.lanes)

    def spread(self, scalar: Any) -> Any:
        """Return a scalar in all lanes."""
        kind = ir.VectorType(scalar.type, self.lanes)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.IntType(32)(0))
        return self.builder.shuffle_vector(one, one, ir.Constant(self.u32, [0] * self.lanes))

    def pointer(self, argument: int, place: Any, kind: Any) -> Any:
        """Return the address of element ``place`` of an array, as a pointer to ``kind``."""
        array = self.context.make_array(self.types[argument])(self.context, self.builder, self.arguments[argument])
        found = cgutils.get_item_pointer(self.context, self.builder, self.types[argument], array, [place])
        return self.builder.bitcast(found, ir.PointerType(kind))

    def load(self, argument: int, place: Any, kind: Any) -> Any:
        """Load a vector from element ``place`` of an array on, at any alignment."""
        loaded = self.builder.load(self.pointer(argument, place, kind))
        loaded.align = 2
        return loaded

    def store(self, argument: int, place: Any, vector: Any) -> None:
        """Store a vector from element ``place`` of an array on, at any alignment."""
        self.builder.store(vector, self.pointer(argument, place, vector.type)).align = 2

    def prefetch(self, argument: int, place: Any) -> None:
        """Prefetch the cache line of element ``place`` of an array for writing; an index past the end is harmless."""
        byte, number = ir.IntType(8), ir.IntType(32)
        where = self.pointer(argument, place, byte)
        of = ir.FunctionType(ir.VoidType(), [where.type, number, number, number])
        hint = self.builder.module.declare_intrinsic("llvm.prefetch", [where.type], of)
        self.builder.call(hint, [where, number(1), number(3), number(1)])  # write, all levels, data

    @contextmanager
    def steps(self, count: int, vectors: int = 1) -> Iterator[Any]:
        """Write a loop over ``count`` elements, ``vectors`` vectors at a time; yield each step's first index."""
        word = ir.IntType(64)
        bounds = word(0), word(count), word(vectors * self.lanes)
        with cgutils.for_range_slice(self.builder, *bounds) as (at, _):
            yield at

    def call(self, name: str, kinds: list[Any], *values: Any, result: Any = None) -> Any:
        """Call an LLVM intrinsic. ``kinds``: the types of its arguments. ``result``: by default the first of them."""
        function = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result or kinds[0], kinds), name)
        return self.builder.call(function, values)

    def joined(self, parts: list[Any]) -> Any:
        """Return vectors of one length, a power of two of them, as one vector."""
        while len(parts) > 1:
            whole = order(range(2 * parts[0].type.count))
            parts = [self.builder.shuffle_vector(*pair, whole) for pair in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def held(self, vector: Any, lanes: int) -> Any:
        """Return a vector that LLVM computes before the loads and stores that follow, and uses after those before.

        ``lanes``: as many as a register holds. LLVM would else move all of them behind or before a long computation.
        """
        kind = ir.VectorType(vector.type.element, lanes)
        same = ir.InlineAsm(ir.FunctionType(kind, [kind]), "", "=x,0,~{memory}", side_effect=True)
        parts = [order(range(at, at + lanes)) for at in range(0, vector.type.count, lanes)]
        return self.joined([self.builder.call(same, [self.builder.shuffle_vector(vector, vector, p)]) for p in parts])

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Return ``a * b + c``, rounded once."""
        return self.call(f"llvm.fma.v{self.lanes}f32", [self.f32] * 3, a, b, c)

    def logic(self, rule: Callable[[int, int, int], int], a: Any, b: Any, c: Any) -> Any:
        """Apply ``rule`` to each bit of three vectors of 16 32-bit numbers, by one AVX-512 instruction.

        LLVM may turn the same written as and, or and shifts into slower permutations.
        """
        table = sum((rule(n >> 2 & 1, n >> 1 & 1, n & 1) & 1) << n for n in range(8))
        number = ir.IntType(32)
        form = ir.FunctionType(self.u32, [self.u32] * 3 + [number])
        function = cgutils.get_or_insert_function(self.builder.module, form, "llvm.x86.avx512.pternlog.d.512")
        return self.builder.call(function, [a, b, c, number(table)])

    def bits(self, vector: Any) -> Any:
        """Reinterpret floats as their bits."""
        return self.builder.bitcast(vector, self.u32)


class Rows:
    """Rows of coefficients, two vectors of 16 for each row, kept in registers throughout a loop (AVX-512)."""

    def __init__(self, v: Vectors, argument: int, first: int, count: int) -> None:
        self.v = v
        self.halves = [
            [v.load(argument, ir.IntType(64)((2 * row + half) * v.lanes), v.f32) for half in (0, 1)]
            for row in range(first, first + count)
        ]

    def choose(self, row: int, piece: Any) -> Any:
        """Return each lane's entry of a row, chosen by the lowest five bits of ``piece``."""
        low, high = self.halves[row]
        name = "llvm.x86.avx512.vpermi2var.ps.512"
        return self.v.call(name, [self.v.f32, self.v.u32, self.v.f32], low, piece, high)

    def polynomial(self, t: Any, piece: Any, first: int) -> Any:
        """Evaluate a polynomial by Horner's rule; its coefficients are all rows from ``first`` on."""
        total = self.choose(len(self.halves) - 1, piece)
        for row in reversed(range(first, len(self.halves) - 1)):
            total = self.v.fma(t, total, self.choose(row, piece))
        return total
