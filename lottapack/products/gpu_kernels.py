"""Triton kernels of products with ``sign1`` weights generated in registers: one vector, batches, and transposed.

The code avoids what Triton's compiler and interpreter could do differently. Weights are +1 and -1, which every input
dtype holds; sums are in float32, and the scale is multiplied once, at the end. Element e of the tensor is bit ``(e >>
10) & 31`` of word ``e & 1023`` of block ``e >> 15``; one call of the generator makes the words j, j + 256, j + 512 and
j + 768 of a block.

``WIDE``: convert inputs to float32 first, for the interpreter, which would read the bits of bfloat16 as integers.

They do not use atomic additions: one program sums each output in a fixed order.
"""

import triton
import triton.language as tl

from lottapack.rng.gpu_kernels import _philox

_COUNTERS, _WORDS = tl.constexpr(256), tl.constexpr(1024)


@triton.jit
def _signs(word, field, like):
    """Return +1 where the bit is 1, else -1, in the dtype of ``like``."""
    return tl.where(((word >> field) & 1) != 0, 1.0, -1.0).to(like.dtype)


@triton.jit
def vector(out, x, key, scale, rows, RUNS: tl.constexpr, ROWS: tl.constexpr):
    """Multiply ``ROWS`` rows of W by one of the inputs: ``out``, shape (n, rows); ``x``, shape (n, 256 * RUNS).

    ``key``: the name's stream and the seed, int64. Words are generated again when a row begins another block.
    """
    stream, seed = tl.load(key).to(tl.uint64), tl.load(key + 1).to(tl.uint64)
    first, item = tl.program_id(0).to(tl.int64) * ROWS, tl.program_id(1).to(tl.int64)
    place = tl.arange(0, _COUNTERS)
    held = first * RUNS // 128
    w0, w1, w2, w3 = _philox((held * _COUNTERS + place).to(tl.uint64), stream, seed)
    for turn in range(ROWS):
        row = first + turn
        total = tl.zeros([_COUNTERS], tl.float32)
        if row < rows:
            for part in range(RUNS):
                run = row * RUNS + part  # the run's number; a run has 256 elements
                if run // 128 != held:
                    held = run // 128
                    w0, w1, w2, w3 = _philox((held * _COUNTERS + place).to(tl.uint64), stream, seed)
                lane = run & 3
                word = tl.where(lane == 0, w0, tl.where(lane == 1, w1, tl.where(lane == 2, w2, w3)))
                terms = tl.load(x + item * (RUNS * _COUNTERS) + part * _COUNTERS + place).to(tl.float32)
                total += terms * _signs(word, ((run >> 2) & 31).to(tl.uint32), terms)
            tl.store(out + item * rows + row, (tl.sum(total) * scale).to(out.dtype.element_ty))


@triton.jit
def batch(
    out, x, key, scale, items, rows, RUNS: tl.constexpr,
    ITEMS: tl.constexpr, ROWS: tl.constexpr, STEP: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Compute ``x @ W.T`` for ``ITEMS`` inputs and ``ROWS`` rows; ``x``, shape (items, 1024 * RUNS)."""
    stream, seed = tl.load(key).to(tl.uint64), tl.load(key + 1).to(tl.uint64)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    item = tl.program_id(1).to(tl.int64) * ITEMS + tl.arange(0, ITEMS)
    total = tl.zeros([ITEMS, ROWS], tl.float32)
    for turn in range(RUNS * (256 // STEP)):
        run, begin = turn // (256 // STEP), turn % (256 // STEP) * STEP
        number = row * RUNS + run  # the run's number; a run has 1,024 elements
        place = begin + tl.arange(0, STEP)
        counter = (number // 32)[None, :] * _COUNTERS + place[:, None]
        words = _philox(counter.to(tl.uint64), stream, seed)
        field = (number & 31).to(tl.uint32)[None, :]
        for lane in tl.static_range(4):
            column = run * _WORDS + lane * _COUNTERS + place
            given = tl.load(
                x + item[:, None] * (RUNS * _WORDS) + column[None, :], mask=(item < items)[:, None], other=0.0
            )
            if WIDE:
                given = given.to(tl.float32)
            total += tl.dot(given, _signs(words[lane], field, given), input_precision=PRECISION)
    inside = (item < items)[:, None] & (row < rows)[None, :]
    tl.store(out + item[:, None] * rows + row[None, :], (total * scale).to(out.dtype.element_ty), mask=inside)


@triton.jit
def transposed(
    out, x, key, scale, items, rows, RUNS: tl.constexpr,
    ITEMS: tl.constexpr, ROWS: tl.constexpr, STEP: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Compute ``x @ W`` for ``ITEMS`` inputs and 4 * ``STEP`` columns, the input's gradient; ``x``: (items, rows)."""
    stream, seed = tl.load(key).to(tl.uint64), tl.load(key + 1).to(tl.uint64)
    run, begin = tl.program_id(0) // (256 // STEP), tl.program_id(0) % (256 // STEP) * STEP
    item = tl.program_id(1).to(tl.int64) * ITEMS + tl.arange(0, ITEMS)
    place = begin + tl.arange(0, STEP)
    t0 = tl.zeros([ITEMS, STEP], tl.float32)
    t1, t2, t3 = t0, t0, t0
    for first in range(0, rows, ROWS):
        row = first + tl.arange(0, ROWS)
        number = row.to(tl.int64) * RUNS + run
        counter = (number // 32)[:, None] * _COUNTERS + place[None, :]
        w0, w1, w2, w3 = _philox(counter.to(tl.uint64), stream, seed)
        field = (number & 31).to(tl.uint32)[:, None]
        inside = (item < items)[:, None] & (row < rows)[None, :]
        given = tl.load(x + item[:, None] * rows + row[None, :], mask=inside, other=0.0)
        if WIDE:
            given = given.to(tl.float32)
        t0 += tl.dot(given, _signs(w0, field, given), input_precision=PRECISION)
        t1 += tl.dot(given, _signs(w1, field, given), input_precision=PRECISION)
        t2 += tl.dot(given, _signs(w2, field, given), input_precision=PRECISION)
        t3 += tl.dot(given, _signs(w3, field, given), input_precision=PRECISION)
    there = out + item[:, None] * (RUNS * _WORDS) + (run * _WORDS + place)[None, :]
    mask = (item < items)[:, None]
    tl.store(there, (t0 * scale).to(out.dtype.element_ty), mask=mask)
    tl.store(there + 256, (t1 * scale).to(out.dtype.element_ty), mask=mask)
    tl.store(there + 512, (t2 * scale).to(out.dtype.element_ty), mask=mask)
    tl.store(there + 768, (t3 * scale).to(out.dtype.element_ty), mask=mask)
