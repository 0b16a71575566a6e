"""The Triton kernels: words, look-up, scale, rounding and fingerprint of a block in one pass (spec: stream, tables).

The code avoids what Triton's compiler and interpreter could do differently: it uses integers except for one
multiplication, whose product is never added to anything; it does not use ``tl.rand``; and it rounds to bfloat16 with
integers, because the interpreter truncates.
"""

import triton
import triton.language as tl

COLUMNS = 8
"""The number of int64 columns of a row, which describes one tensor."""
_COLUMNS = tl.constexpr(COLUMNS)
_POINTER, _START, _COUNT, _STREAM, _SEED, _SCALE, _PROGRAM, _BLOCK = (tl.constexpr(n) for n in range(COLUMNS))
"""The columns: the address; the index of the first element; the number of elements; the name's stream; the seed; the
bits of the scale; the first program that works on the tensor; the first block of words."""

_FLOAT32, _BFLOAT16 = tl.constexpr(0), tl.constexpr(1)
_WORDS, _COUNTERS = tl.constexpr(1024), tl.constexpr(256)
_ROUNDS = tl.constexpr(10)
_M0, _M1 = tl.constexpr(0xD2511F53), tl.constexpr(0xCD9E8D57)
_W0, _W1 = tl.constexpr(0x9E3779B9), tl.constexpr(0xBB67AE85)
_GOLDEN = tl.constexpr(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = tl.constexpr(0xBF58476D1CE4E5B9), tl.constexpr(0x94D049BB133111EB)


@triton.jit
def _mix(bits, number):
    """Return what one element adds to the fingerprint (spec: fingerprint): uint64."""
    z = bits.to(tl.uint64) ^ (number.to(tl.uint64) * _GOLDEN)
    z = (z ^ (z >> 30)) * _MIX1
    z = (z ^ (z >> 27)) * _MIX2
    return z ^ (z >> 31)


@triton.jit
def _philox(counter, stream, seed):
    """Return the four output lanes of each counter, uint64: each a uint32 of the counters' shape (spec: stream, 1)."""
    zero = tl.zeros_like(counter).to(tl.uint32)
    c0, c1 = counter.to(tl.uint32), (counter >> 32).to(tl.uint32)
    c2, c3 = zero + stream.to(tl.uint32), zero + (stream >> 32).to(tl.uint32)
    k0, k1 = seed.to(tl.uint32), (seed >> 32).to(tl.uint32)
    for _ in tl.static_range(_ROUNDS):
        p0, p1 = c0.to(tl.uint64) * _M0, c2.to(tl.uint64) * _M1
        c0 = (p1 >> 32).to(tl.uint32) ^ c1 ^ k0
        c1 = p1.to(tl.uint32)
        c2 = (p0 >> 32).to(tl.uint32) ^ c3 ^ k1
        c3 = p0.to(tl.uint32)
        k0 = k0 + _W0
        k1 = k1 + _W1
    return c0, c1, c2, c3


@triton.jit
def _element(word, shift, table, scale, BITS: tl.constexpr, FORM: tl.constexpr, UNIFORM: tl.constexpr):
    """Return the bits of the elements in one field of the words: uint32, or uint16 for dtypes of 16 bits."""
    index = (word >> shift) & ((1 << BITS) - 1)
    if UNIFORM:  # the entries of uniform16 are exact, so they need not be looked up
        entry = (2 * index.to(tl.int32) - 65535).to(tl.float32) * 0.0000152587890625
    else:
        entry = tl.load(table + index.to(tl.int32))
    value = entry * scale
    if FORM == _FLOAT32:
        bits = value.to(tl.uint32, bitcast=True)
    elif FORM == _BFLOAT16:
        whole = value.to(tl.uint32, bitcast=True)
        bits = ((whole + 0x7FFF + ((whole >> 16) & 1)) >> 16).to(tl.uint16)
    else:
        bits = _float16(value.to(tl.uint32, bitcast=True))
    return bits


@triton.jit
def _float16(whole):
    """Round finite float32 bits to float16 bits, ties to even."""
    magnitude = whole & 0x7FFFFFFF
    normal = (magnitude + 0xFFF + ((magnitude >> 13) & 1) - 0x38000000) >> 13
    # Below 2**-14, the significand is shifted to units of 2**-24. From 25 places on, nothing of it remains.
    places = tl.minimum(tl.maximum(126 - (magnitude >> 23).to(tl.int32), 1), 25).to(tl.uint32)
    significand = (magnitude & 0x7FFFFF) | 0x800000
    subnormal = (significand + ((1 << (places - 1)) - 1) + ((significand >> places) & 1)) >> places
    return (tl.where(magnitude < 0x38800000, subnormal, normal) | ((whole >> 16) & 0x8000)).to(tl.uint16)


@triton.jit(do_not_specialize=["first_step", "tensors"])
def generate(
    rows, sums, table, first_step, tensors,
    BLOCKS: tl.constexpr, BITS: tl.constexpr, FORM: tl.constexpr, UNIFORM: tl.constexpr,
    STORE: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """Generate ``BLOCKS`` blocks of words of one of the tensors in ``rows``, shape (tensors, COLUMNS).

    ``STORE``: write the elements. ``SUM``: add their part of the fingerprint to ``sums``, shape (tensors,).
    ``first_step``: the largest power of two below ``tensors``, or 0.
    """
    program = tl.program_id(0).to(tl.int64)
    tensor, step = program * 0, first_step + program * 0
    while step > 0:  # find the last row whose first program is not after this one
        probe = tensor + step
        there = tl.load(rows + probe * _COLUMNS + _PROGRAM, mask=probe < tensors, other=0x7FFFFFFFFFFFFFFF)
        tensor = tl.where(there <= program, probe, tensor)
        step = step // 2
    row = rows + tensor * _COLUMNS
    pointer = tl.load(row + _POINTER).to(tl.pointer_type(tl.uint32 if FORM == _FLOAT32 else tl.uint16))
    start, count = tl.load(row + _START), tl.load(row + _COUNT)
    stream, seed = tl.load(row + _STREAM).to(tl.uint64), tl.load(row + _SEED).to(tl.uint64)
    scale = tl.load(row + _SCALE).to(tl.int32).to(tl.float32, bitcast=True)
    first = tl.load(row + _BLOCK) + (program - tl.load(row + _PROGRAM)) * BLOCKS
    total = tl.zeros([_COUNTERS], tl.int64)
    for turn in range(BLOCKS):
        block = first + turn
        base = block * (_WORDS * (32 // BITS)) - start  # the index in the tensor of the block's first element
        if base < count:
            low = tl.maximum(-base, 0).to(tl.int32)  # the part of the block inside the tensor
            high = tl.minimum(count - base, _WORDS * (32 // BITS)).to(tl.int32)
            counter = (block * _COUNTERS + tl.arange(0, _COUNTERS)).to(tl.uint64)
            word0, word1, word2, word3 = _philox(counter, stream, seed)
            for field in range(low // _WORDS, (high + _WORDS - 1) // _WORDS):
                for lane in tl.static_range(4):
                    word = word0 if lane == 0 else word1 if lane == 1 else word2 if lane == 2 else word3
                    bits = _element(word, field * BITS, table, scale, BITS, FORM, UNIFORM)
                    place = field * _WORDS + lane * _COUNTERS + tl.arange(0, _COUNTERS)
                    inside = (place >= low) & (place < high)
                    if STORE:
                        # One element for each thread at a time: more would have to move bits between threads.
                        tl.store(pointer + base + place, bits, mask=inside)
                    if SUM:
                        total += tl.where(inside, _mix(bits, start + base + place).to(tl.int64), 0)
    if SUM:
        tl.atomic_add(sums + tensor, tl.sum(total))


@triton.jit(do_not_specialize=["start", "count"])
def fingerprint(bits, sums, start, count, STEPS: tl.constexpr, WIDE: tl.constexpr):
    """Add the fingerprint of ``STEPS`` times 1024 elements to ``sums``, shape (1,).

    ``bits``: int32 (``WIDE``) or int16, shape (count,), whose first element has index ``start``.
    """
    first = tl.program_id(0).to(tl.int64) * (STEPS * _WORDS)
    total = tl.zeros([_WORDS], tl.int64)
    for turn in range(STEPS):
        place = first + turn * _WORDS + tl.arange(0, _WORDS)
        inside = place < count
        found = tl.load(bits + place, mask=inside, other=0)
        plain = found.to(tl.uint32, bitcast=True) if WIDE else found.to(tl.uint16, bitcast=True)
        total += tl.where(inside, _mix(plain, place + start).to(tl.int64), 0)
    tl.atomic_add(sums, tl.sum(total))
