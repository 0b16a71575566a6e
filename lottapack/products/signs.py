"""Products with ``sign1`` weights on a CPU: their division into parts for the kernels, and working memory."""

from functools import cache, lru_cache, partial
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lottapack.products import answers, declared, layout
from lottapack.products.scratch import result, scratch, working
from lottapack.rng import Source, backends
from lottapack.rng.kernels.kernel import Memory
from lottapack.rng.stream import WORDS
from lottapack.rng.threads import default, run_all

DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16)
"""The dtypes of inputs that the kernels take, as float32."""
FEW: Final = 32
"""The number of inputs up to which they are faster than blocks and BLAS, without table look-ups in registers."""
SLAB: Final = 512
"""The number of inputs multiplied at once, so that working memory does not grow with more inputs."""
BITS: Final = 1 << 23
"""Bytes of the bits that a transposed product generates at a time, unless it may use less; they fit in an L3 cache."""

_PIECE = 1 << 24
"""The smallest work for a separate thread: weights times inputs, plus four per weight to generate them."""
_LANES = 1 << 17
"""The number of lane values that a thread holds at a time, or those of six vectors; they fit in an L2 cache."""
_ROWS = 768
"""The largest number of rows that a thread takes at a time: building tables then costs a twentieth of the time."""
_CHUNKS = 8
"""The number of column chunks that a thread takes at a time, for the same reason."""
_BLOCKS = 1 << 7
"""The smallest number of blocks whose bits are generated in a separate thread."""


def fits(x: Tensor, source: Source, shape: tuple[int, int], transposed: bool, max_bytes: int | None) -> bool:
    """Return whether the kernels take a product of inputs of shape (n, columns), or (n, rows) if ``transposed``."""
    if source.table.id != "sign1" or not x.is_cpu or x.dtype not in DTYPES or not (x.numel() and shape[0] and shape[1]):
        return False
    if transposed and max_bytes is not None and max_bytes < 4 * _bits_of(layout.TERMS, shape[1]):
        return False
    return backends.numba_works() and (x.shape[0] <= FEW or _looks_up_in_registers())


@cache
def _looks_up_in_registers() -> bool:
    from lottapack.rng.kernels.machine import processor  # imports llvmlite, which numba_works() has found

    return processor().has("avx2")


def product(
    x: Tensor, source: Source, scale: float, shape: tuple[int, int], transposed: bool, max_bytes: int | None = None
) -> Tensor:
    """Return ``x @ W.T``, or ``x @ W`` if ``transposed``, in the dtype of ``x``. ``scale``: of every weight.

    Raises DeviceError if the kernels give wrong answers.
    """
    _require_right_answers()
    multiply = partial(_transposed, max_bytes=max_bytes) if transposed else _forward
    if x.shape[0] <= SLAB:
        out = multiply(x, source, scale, shape)
        return out if out.dtype is x.dtype else out.to(x.dtype)
    out = result(x, x.shape[0], shape[transposed])
    for first in range(0, x.shape[0], SLAB):
        out[first : first + SLAB] = multiply(x[first : first + SLAB], source, scale, shape)
    return out


@cache
def _require_right_answers() -> None:
    def product(x: Tensor, source: Source, shape: tuple[int, int], transposed: bool) -> Tensor:
        return _transposed(x, source, 1.0, shape) if transposed else _forward(x, source, 1.0, shape)

    answers.ensure("sign1", product)


def _forward(x: Tensor, source: Source, scale: float, shape: tuple[int, int]) -> Tensor:
    rows, columns = shape
    # Not zeros: torch's threads would write them, and wait by spinning.
    out = result(x, x.shape[0], rows, torch.float32)
    terms, sums, key = Memory.of_tensor(_inputs(x)), Memory.of_tensor(out.view(-1)), source.halves
    held, threads = layout.bits_around(columns), default()

    def work(begin: int, end: int) -> None:
        space = working(layout.product_space(end - begin, columns))
        declared.PRODUCT(sums, terms, space, rows, held, columns, begin, end, scale, *key)

    parts = _parts(x.shape[0], rows, columns, threads)
    if len(parts) == 1:  # a small product: a call more would be felt
        work(0, rows)
    else:
        run_all([partial(work, *part) for part in parts], threads)
    return out


def _inputs(x: Tensor) -> Tensor:
    return (x if x.dtype is torch.float32 else x.float()).contiguous().view(-1)


@lru_cache(maxsize=4096)
def _parts(inputs: int, rows: int, columns: int, threads: int) -> list[tuple[int, int]]:
    """Return ranges of rows for threads to take. Vectors of rows are summed six at a time."""
    six = 6 * layout.LANES
    most = min(_ROWS, max(six, _LANES // layout.lanes_of_rows(columns) * layout.LANES // six * six))
    wanted = max(-(-rows // most), min(threads, (4 + inputs) * rows * columns // _PIECE), 1)
    unit = six if wanted > threads else layout.LANES
    size = -(-rows // (wanted * unit)) * unit
    return [(begin, min(begin + size, rows)) for begin in range(0, rows, size)]


def _transposed(
    x: Tensor, source: Source, scale: float, shape: tuple[int, int], max_bytes: int | None = None
) -> Tensor:
    (rows, columns), inputs, threads, terms = shape, x.shape[0], default(), _inputs(x)
    chunks, height = -(-columns // layout.CHUNK), layout.TERMS
    while height < rows and _bits_of(2 * height, columns) <= min(BITS, max_bytes or BITS) // 4:
        height *= 2
    wide = min(_CHUNKS, max(1, chunks // threads))
    tasks = [
        (top, min(top + layout.SLAB, inputs), begin, min(begin + wide, chunks))
        for top in range(0, inputs, layout.SLAB)
        for begin in range(0, chunks, wide)
    ]
    with (
        scratch(_bits_of(min(height, rows), columns), torch.float32, x.device) as words,
        scratch(inputs * chunks * layout.CHUNK, torch.float32, x.device) as flat,
    ):
        bits = Memory.of(words.numpy().view(np.uint32))
        for first in range(0, rows, height):
            last = min(first + height, rows)
            begin, end = first * columns // layout.BLOCK, -(-last * columns // layout.BLOCK)
            cuts = [*range(begin, end, _BLOCKS), end]
            parts = [bits.part((lo - begin) * WORDS, (hi - begin) * WORDS) for lo, hi in pairwise(cuts)]
            make = zip(parts, cuts[:-1], strict=True)
            run_all([partial(declared.SIGNS, part, block, *source.halves) for part, block in make], threads)
            sizes = chunks * layout.CHUNK, rows, first * columns - begin * layout.BLOCK, last - first, columns
            add = partial(_add, Memory.of_tensor(flat), Memory.of_tensor(terms[first:]), bits, sizes, first == 0)
            run_all([partial(add, *task) for task in tasks], threads)
        out = result(x, inputs, columns, torch.float32)
        ordered = flat.view(inputs, chunks, 32, layout.LANES).transpose(2, 3)
        if columns % layout.CHUNK:
            return out.copy_(ordered.reshape(inputs, -1)[:, :columns]).mul_(scale)
        torch.mul(ordered, scale, out=out.view(inputs, chunks, layout.LANES, 32))
    return out


def _add(
    out: Memory,
    terms: Memory,
    bits: Memory,
    sizes: tuple[int, ...],
    fresh: bool,
    top: int,
    bottom: int,
    begin: int,
    end: int,
) -> None:
    """Add one thread's share of the transposed product with some rows."""
    space = working(layout.transposed_space(end - begin))
    declared.TRANSPOSED(out, terms, space, bits, *sizes, top, bottom, begin, end, fresh)


def _bits_of(rows: int, columns: int) -> int:
    """Return the 32-bit numbers for the bits of this many rows, from a block's beginning to a block's end."""
    blocks = (rows * columns + 2 * layout.BLOCK) // layout.BLOCK
    return max(blocks * WORDS, layout.bits_space(layout.BLOCK, rows, columns))
