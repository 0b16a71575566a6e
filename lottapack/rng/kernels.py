"""The numba kernels of the CPU backend. They hold no lock, so that threads run them side by side.

Lessons of the profile (two cores of Zen 4, numba 0.68):

- A word costs 0.4 ns on a core, which is what the vector units can do. Lanes of 64 bits: ``M * c`` and its halves by
  shift and mask become one ``vpmuludq`` and a shift. Written as vectors (``_group``) it no longer hangs on what LLVM
  makes of a loop.
- A block of words stays in the L1 cache. Two thirds of ``normal16`` is then its look-up, 0.55 ns: the 256 KB table lies
  in L2, and a core stores once a cycle. So look-ups store several entries at once, ask for the output's next lines on
  the way, and make the next block's words meanwhile: 1.6 became 1.9 weights a nanosecond.
- Tried and no faster: asking for a whole page of output at once, half a table by symmetry, huge pages for the table or
  the output, and streaming stores (half as fast).
- Where the value follows from the index by exact arithmetic there is no look-up, and the loop is vectorised.

All scalars are of one unsigned type, because numba makes a float of a signed and an unsigned integer.
Everything is in one module, because numba's cache looks only at a function's own file.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from lottapack.rng.stream import COUNTERS, MULTIPLIERS, ROUNDS, WEYL, WORDS

F = TypeVar("F", bound=Callable[..., object])
u32, u64, i32, f32 = np.uint32, np.uint64, np.int32, np.float32

GROUP = 8
"""Counters whose words are made at once: 64-bit lanes of a 512-bit vector; narrower units take it in parts."""

_LOW32 = u64(0xFFFFFFFF)
_32 = u64(32)
_COUNTERS, _WORDS, _GROUP = u64(COUNTERS), u64(WORDS), u64(GROUP)


def _jit(function: F) -> F:
    """Compile on first use, and keep the result on disk if there is a place to."""
    try:
        return cast(F, njit(nogil=True, cache=True)(function))
    except RuntimeError:  # numba found no writable place for its cache
        return cast(F, njit(nogil=True)(function))


@intrinsic  # type: ignore[untyped-decorator]
def _group(_: Any, out: Any, first: Any, low: Any, high: Any, s0: Any, s1: Any, k0: Any, k1: Any) -> Any:
    """Fill the words of GROUP counters from ``low + first`` on: ``out[256 * lane + first + 0 .. GROUP - 1]``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, index, narrow = ir.IntType(64), ir.IntType(32), ir.VectorType(ir.IntType(32), GROUP)
        wide = ir.VectorType(word, GROUP)

        def every(value: int) -> Any:
            return ir.Constant(wide, [value] * GROUP)

        def spread(scalar: Any) -> Any:
            one = builder.insert_element(ir.Constant(wide, ir.Undefined), scalar, index(0))
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(index, GROUP), [0] * GROUP))

        low32, half = every(0xFFFFFFFF), every(32)
        array, first, low, high, s0, s1, a, b = arguments
        start = spread(builder.add(low, first))
        c0 = builder.and_(builder.add(start, ir.Constant(wide, list(range(GROUP)))), low32)
        c1, c2, c3 = spread(high), spread(s0), spread(s1)
        for _round in range(ROUNDS):
            p0, p1 = builder.mul(every(MULTIPLIERS[0]), c0), builder.mul(every(MULTIPLIERS[1]), c2)
            c0 = builder.xor(builder.xor(builder.lshr(p1, half), c1), spread(a))
            c2 = builder.xor(builder.xor(builder.lshr(p0, half), c3), spread(b))
            c1, c3 = builder.and_(p1, low32), builder.and_(p0, low32)
            a, b = (builder.and_(builder.add(k, word(w)), word(0xFFFFFFFF)) for k, w in zip((a, b), WEYL, strict=True))
        struct = context.make_array(signature.args[0])(context, builder, array)
        for lane, words in enumerate((c0, c1, c2, c3)):
            place = builder.add(first, word(COUNTERS * lane))
            pointer = cgutils.get_item_pointer(context, builder, signature.args[0], struct, [place])
            store = builder.store(builder.trunc(words, narrow), builder.bitcast(pointer, ir.PointerType(narrow)))
            store.align = 4
        return context.get_dummy_value()

    return types.void(out, first, low, high, s0, s1, k0, k1), generate


@_jit
def _words(out: Any, block: Any, k0: Any, k1: Any, s0: Any, s1: Any) -> None:
    """Fill ``out``, shape (1024,), uint32, with the words of ``block`` (spec: stream, sections 1 to 3)."""
    first = block * _COUNTERS  # the low half of the counter cannot overflow within a block
    for t in range(u64(0), _COUNTERS, _GROUP):
        _group(out, t, first & _LOW32, first >> _32, s0, s1, k0, k1)


@_jit
def _look_up(out: Any, words: Any, table: Any, shift: Any, mask: Any) -> None:
    for i in range(out.size):
        out[i] = table[(words[i] >> shift) & mask]


@intrinsic  # type: ignore[untyped-decorator]
def _prefetch(_: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of ``array[index]``, to be written; past the end it is harmless."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        struct = context.make_array(kind)(context, builder, arguments[0])
        place = cgutils.get_item_pointer(context, builder, kind, struct, [arguments[1]])
        byte, i32_ = ir.PointerType(ir.IntType(8)), ir.IntType(32)
        of = ir.FunctionType(ir.VoidType(), [byte, i32_, i32_, i32_])
        hint = builder.module.declare_intrinsic("llvm.prefetch", [byte], of)
        builder.call(hint, [builder.bitcast(place, byte), i32_(1), i32_(3), i32_(1)])  # write, all levels, data
        return context.get_dummy_value()

    return types.void(array, index), generate


@_jit
def _look_up_block(
    out: Any, words: Any, table: Any, bits: Any, pair: Any, ahead: Any, block: Any, k0: Any, k1: Any, s0: Any, s1: Any
) -> None:
    """All elements that one block serves, while the words of ``block`` are made into ``ahead``.

    ``out`` and ``words`` are seen as uint64. ``pair``: how many elements fit in 64 bits, 2 or 4.
    """
    first, mask = block * _COUNTERS, (u64(1) << bits) - u64(1)
    run = _WORDS // pair  # uint64 of the output in one field's run
    step = run // (_COUNTERS // _GROUP)
    for t in range(u64(0), _COUNTERS, _GROUP):
        _group(ahead, t, first & _LOW32, first >> _32, s0, s1, k0, k1)
        lo = (t // _GROUP) * step
        begin = u64(0)
        for shift in range(u64(0), _32, bits):
            for line in range(lo, lo + step, u64(8)):
                _prefetch(out, begin + line + run * (_32 // bits))
                for i in range(line, line + u64(8)):
                    if pair == u64(2):
                        word = words[i] >> shift
                        out[begin + i] = u64(table[word & mask]) | (u64(table[(word >> _32) & mask]) << _32)
                    else:
                        one, two = words[u64(2) * i] >> shift, words[u64(2) * i + u64(1)] >> shift
                        low = u64(table[one & mask]) | (u64(table[(one >> _32) & mask]) << u64(16))
                        high = u64(table[two & mask]) | (u64(table[(two >> _32) & mask]) << u64(16))
                        out[begin + i] = low | (high << _32)
            begin += run


@_jit
def _select(out: Any, words: Any, table: Any, shift: Any) -> None:
    """One bit an element: choose between two entries without a look-up."""
    zero, change = u32(table[0]), u32(table[0] ^ table[1])
    for i in range(out.size):
        out[i] = zero ^ (change * ((words[i] >> shift) & u32(1)))


@_jit
def _uniform(out: Any, words: Any, unit: Any, shift: Any) -> None:
    """``uniform16``: (2 n - 65535) * unit, where ``unit`` is scale / 65536, is rounded once like table[n] * scale."""
    for i in range(out.size):
        twice = i32(((words[i] >> shift) & u32(0xFFFF)) << u32(1))
        out[i] = f32(f32(twice - i32(65535)) * unit).view(u32)


@_jit
def fill(out: Any, table: Any, bits: Any, unit: Any, block: Any, skip: Any, k0: Any, k1: Any, s0: Any, s1: Any) -> None:
    """Fill ``out`` with elements from number ``skip`` of those that ``block`` and the blocks after it serve.

    ``out``: shape (n,), uint32 or uint16. ``table``: scaled bits, shape (2**bits,), the type of ``out``.
    ``unit``: float32, above 0 for ``uniform16`` in float32 only. All others: uint64. Spec: stream, section 4.
    """
    words, ahead = np.empty(WORDS, u32), np.empty(WORDS, u32)
    end = skip + u64(out.size)
    place = u64(0)  # of the block's first element, counted from the first that the first block serves
    served = _WORDS * (_32 // bits)
    looked_up = bits > u64(1) and unit == 0
    ready = False
    while place < end:
        if not ready:
            _words(words, block, k0, k1, s0, s1)
        block += u64(1)
        ready = looked_up and place >= skip and place + served <= end
        if ready:
            run = out[place - skip : place - skip + served].view(u64)
            pair = u64(8 // out.itemsize)
            _look_up_block(run, words.view(u64), table, bits, pair, ahead, block, k0, k1, s0, s1)
            words, ahead = ahead, words
        else:
            _fill_part(out, words, table, bits, unit, place, skip)
        place += served


@_jit
def _fill_part(out: Any, words: Any, table: Any, bits: Any, unit: Any, place: Any, skip: Any) -> None:
    """Those elements of one block, whose first is number ``place``, that lie in ``out``."""
    end, mask = skip + u64(out.size), u32((u64(1) << bits) - u64(1))
    for shift in range(u64(0), _32, bits):
        lo, hi = max(place, skip), min(place + _WORDS, end)
        if lo < hi:
            run, used = out[lo - skip : hi - skip], words[lo - place : hi - place]
            if bits == u64(1):
                _select(run, used, table, u32(shift))
            elif unit > 0:
                _uniform(run, used, unit, u32(shift))
            else:
                _look_up(run, used, table, u32(shift), mask)
        place += _WORDS


@_jit
def fingerprint(bits: Any, start: Any) -> Any:
    """The fingerprint of ``bits``, shape (n,), uint32 or uint16, whose first element is number ``start`` (uint64)."""
    total = u64(0)
    for i in range(bits.size):
        z = u64(bits[i]) ^ ((start + u64(i)) * u64(0x9E3779B97F4A7C15))
        z = (z ^ (z >> u64(30))) * u64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> u64(27))) * u64(0x94D049BB133111EB)
        total += z ^ (z >> u64(31))
    return total
