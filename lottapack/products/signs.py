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
from lottapack.rng.kernels import team
from lottapack.rng.kernels.calls import Work, run
from lottapack.rng.kernels.kernel import Memory
from lottapack.rng.stream import WORDS
from lottapack.rng.threads import default

DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16)
"""The dtypes of inputs that the kernels take, as float32."""
FEW: Final = 32
"""The number of inputs up to which they are faster than blocks and BLAS, without table look-ups in registers."""
SLAB: Final = 512
"""The number of inputs multiplied at once, so that working memory does not grow with more inputs."""
BITS: Final = 1 << 23
"""Bytes of the bits that a transposed product generates at a time, unless it may use less; they fit in an L3 cache."""

_LEAST = 1 << 24
"""The smallest work for a separate thread: weights times inputs, plus four per weight to generate them."""
_LEAST_OF_TEAM = 1 << 20
"""The smallest work for a thread of torch's, which spins and so starts at once."""
_LANES = 1 << 17
"""The number of lane values that a thread holds at a time, or those of six vectors; they fit in an L2 cache."""
_ROWS = 768
"""The largest number of rows that a thread takes at a time: building tables then costs a twentieth of the time."""
_CHUNKS = 8
"""The number of column chunks that a thread takes at a time, for the same reason."""
_BLOCKS = 1 << 3
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
    held = layout.bits_around(columns)
    threads = _threads(x.shape[0], rows, columns)
    parts = _parts(rows, columns, threads)
    given = [(sums, terms, None, rows, held, columns, *part, scale, *key) for part in parts]
    size = layout.product_space(max(end - begin for begin, end in parts), columns)
    run(declared.PRODUCT, given, threads, Work(2, size, working))
    return out


def _threads(inputs: int, rows: int, columns: int) -> int:
    """Return how many threads a product is worth."""
    work = (4 + inputs) * rows * columns
    return max(1, min(default(), work // (_LEAST_OF_TEAM if team.is_ready() else _LEAST)))


def _inputs(x: Tensor) -> Tensor:
    return (x if x.dtype is torch.float32 else x.float()).contiguous().view(-1)


@lru_cache(maxsize=4096)
def _parts(rows: int, columns: int, threads: int) -> list[tuple[int, int]]:
    """Return ranges of rows for threads to take, as many for each. With AVX-512, vectors are summed six at a time."""
    six = 6 * layout.LANES
    most = min(_ROWS, max(six, _LANES // layout.lanes_of_rows(columns) * layout.LANES // six * six))
    wanted = -(-rows // (most * threads)) * threads
    unit = six if wanted > 2 * threads else layout.LANES
    size = -(-rows // (wanted * unit)) * unit
    return [(begin, min(begin + size, rows)) for begin in range(0, rows, size)]


def _transposed(
    x: Tensor, source: Source, scale: float, shape: tuple[int, int], max_bytes: int | None = None
) -> Tensor:
    (rows, columns), inputs, terms = shape, x.shape[0], _inputs(x)
    threads = _threads(inputs, rows, columns)
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
        bits, sums = Memory.of(words.numpy().view(np.uint32)), Memory.of_tensor(flat)
        for first in range(0, rows, height):
            last = min(first + height, rows)
            begin, end = first * columns // layout.BLOCK, -(-last * columns // layout.BLOCK)
            cuts = [*range(begin, end, max(_BLOCKS, -(-(end - begin) // threads))), end]
            parts = [bits.part((lo - begin) * WORDS, (hi - begin) * WORDS) for lo, hi in pairwise(cuts)]
            make = zip(parts, cuts[:-1], strict=True)
            run(declared.SIGNS, [(part, block, *source.halves) for part, block in make], threads)
            given = Memory.of_tensor(terms[first:])
            sizes = chunks * layout.CHUNK, rows, first * columns - begin * layout.BLOCK, last - first, columns
            shares = [(sums, given, None, bits, *sizes, *task, first == 0) for task in tasks]
            run(declared.TRANSPOSED, shares, threads, Work(2, layout.transposed_space(wide), working))
        out = result(x, inputs, columns, torch.float32)
        to = Memory.of_tensor(out.view(-1))
        cuts = [inputs * part // threads for part in range(threads + 1)]
        finish = [(to, sums, chunks * layout.CHUNK, columns, *part, scale) for part in pairwise(cuts)]
        run(declared.ORDERED, finish, threads)
    return out


def _bits_of(rows: int, columns: int) -> int:
    """Return the 32-bit numbers for the bits of this many rows, from a block's beginning to a block's end."""
    blocks = (rows * columns + 2 * layout.BLOCK) // layout.BLOCK
    return max(blocks * WORDS, layout.bits_space(layout.BLOCK, rows, columns))
