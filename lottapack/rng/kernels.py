"""The numba kernels of the CPU backend. They hold no lock, so that threads run them side by side.

Lessons of the profile (two cores of Zen 4, numba 0.68):

- Lanes of 64 bits: ``p = M * c`` and its halves by shift and mask become one vector multiplication (``vpmuludq``) and
  a shift, eight counters at a time; the words take 0.4 ns each on a core, which is what the vector units can do.
- A block of words stays in the L1 cache. Two thirds of ``normal16`` is then its look-up, 0.55 ns: the 256 KB table lies
  in L2, and a core stores once a cycle. So look-ups store several entries at once, and ask for the output's next
  page line by line on the way (together a fifth faster). Asking for the whole page at once, half a table by symmetry,
  huge pages for the table and streaming stores were no faster, the last half as fast. To interleave the next block's
  words with the look-ups gains a tenth, but hangs on how LLVM unrolls a short loop.
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

_M0, _M1 = map(u64, MULTIPLIERS)
_W0, _W1 = map(u64, WEYL)
_LOW32 = u64(0xFFFFFFFF)
_32 = u64(32)
_COUNTERS, _WORDS = u64(COUNTERS), u64(WORDS)


def _jit(function: F) -> F:
    """Compile on first use, and keep the result on disk if there is a place to."""
    try:
        return cast(F, njit(nogil=True, cache=True)(function))
    except RuntimeError:  # numba found no writable place for its cache
        return cast(F, njit(nogil=True)(function))


@_jit
def _words(out: Any, block: Any, k0: Any, k1: Any, s0: Any, s1: Any) -> None:
    """Fill ``out``, shape (1024,), uint32, with the words of ``block`` (spec: stream, sections 1 to 3)."""
    first = block * _COUNTERS  # the low half of the counter cannot overflow within a block
    low, high = first & _LOW32, first >> _32
    for t in range(COUNTERS):
        c0, c1, c2, c3 = low + u64(t), high, s0, s1
        a, b = k0, k1
        for _ in range(ROUNDS):
            p0, p1 = _M0 * c0, _M1 * c2
            c0, c1 = (p1 >> _32) ^ c1 ^ a, p1 & _LOW32
            c2, c3 = (p0 >> _32) ^ c3 ^ b, p0 & _LOW32
            a, b = (a + _W0) & _LOW32, (b + _W1) & _LOW32
        out[t] = u32(c0)
        out[COUNTERS + t] = u32(c1)
        out[2 * COUNTERS + t] = u32(c2)
        out[3 * COUNTERS + t] = u32(c3)


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
def _look_up_pairs(out: Any, words: Any, table: Any, shift: Any, mask: Any) -> None:
    """A whole run into 32-bit elements, ``out`` and ``words`` seen as uint64, shape (512,)."""
    for line in range(0, 512, 8):
        _prefetch(out, line + 512)
        for i in range(line, line + 8):
            word = words[i] >> shift
            out[i] = u64(table[word & mask]) | (u64(table[(word >> _32) & mask]) << _32)


@_jit
def _look_up_fours(out: Any, words: Any, table: Any, shift: Any, mask: Any) -> None:
    """A whole run into 16-bit elements, ``out`` seen as uint64, shape (256,), ``words`` as uint64, shape (512,)."""
    for line in range(0, 256, 8):
        _prefetch(out, line + 256)
        for i in range(line, line + 8):
            one, two = words[2 * i] >> shift, words[2 * i + 1] >> shift
            low = u64(table[one & mask]) | (u64(table[(one >> _32) & mask]) << u64(16))
            high = u64(table[two & mask]) | (u64(table[(two >> _32) & mask]) << u64(16))
            out[i] = low | (high << _32)


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
    words = np.empty(WORDS, u32)
    end = skip + u64(out.size)
    place = u64(0)  # of the run's first element, counted from the first that `block` serves
    mask = u32((u64(1) << bits) - u64(1))
    while place < end:
        _words(words, block, k0, k1, s0, s1)
        for shift in range(u64(0), _32, bits):
            lo, hi = max(place, skip), min(place + _WORDS, end)
            if lo < hi:
                run, used = out[lo - skip : hi - skip], words[lo - place : hi - place]
                if bits == u64(1):
                    _select(run, used, table, u32(shift))
                elif unit > 0:
                    _uniform(run, used, unit, u32(shift))
                elif hi - lo < _WORDS:
                    _look_up(run, used, table, u32(shift), mask)
                elif out.itemsize == 4:
                    _look_up_pairs(run.view(u64), words.view(u64), table, shift, u64(mask))
                else:
                    _look_up_fours(run.view(u64), words.view(u64), table, shift, u64(mask))
            place += _WORDS
        block += u64(1)


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
