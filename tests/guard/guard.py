"""Run every kernel on memory between guard pages: ``python guard.py [quick]``.

Each array that a kernel reads or writes ends at a guard page, and in a second call begins after one. A
kernel that touches a byte beyond kills the process. Its results are compared with those in ordinary
memory. Prints the number of calls of each kernel.
"""

import ctypes
import itertools
import mmap
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from lottapack import rng
from lottapack.products import declared as declared_products
from lottapack.products import layout, narrow
from lottapack.rng import cpu, fits
from lottapack.rng.kernels import declared
from lottapack.rng.kernels.kernel import Kernel
from lottapack.rng.quantile import coefficients
from lottapack.rng.stream import WORDS
from lottapack.rng.tables import scaled_bits

PAGE = mmap.PAGESIZE
NOTHING = 0
calls: Counter[str] = Counter()
_libc = ctypes.CDLL(None)


class Guarded:
    """Copy an array to memory directly before or after a guard page."""

    def __init__(self, values: np.ndarray, behind: bool) -> None:
        pages = max(1, -(-values.nbytes // PAGE))
        self._map = mmap.mmap(-1, (pages + 2) * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._guards = start, start + (pages + 1) * PAGE
        first = (pages + 1) * PAGE - values.nbytes if behind else PAGE
        flat = np.frombuffer(self._map, np.uint8, values.nbytes, first).view(values.dtype)
        self.array = flat.reshape(values.shape)
        self.array[...] = values
        self._protect(NOTHING)

    def _protect(self, access: int) -> None:
        for guard in self._guards:
            assert _libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(PAGE), access) == 0


def run(kernel: Kernel, *arguments: Any, working: int | None = None) -> None:
    """Call a kernel on ordinary arrays and on guarded copies; compare the results."""
    due = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    answer = kernel(*due)
    for behind in (True, False):
        guarded = [Guarded(a, behind) if isinstance(a, np.ndarray) else a for a in arguments]
        given = [a.array if isinstance(a, Guarded) else a for a in guarded]
        assert kernel(*given) == answer
        for place, (one, other) in enumerate(zip(given, due, strict=True)):
            if isinstance(one, np.ndarray) and place != working:
                assert np.array_equal(one.view(np.uint8), other.view(np.uint8)), kernel.name
        calls[kernel.name] += 1


KEY = (7, 2**32 - 1, 3, 2**31)
SMALL = (0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1023, 1024, 1025)


def around(served: int, quick: bool) -> list[int]:
    """Return sizes, in elements, around the kernels' block borders."""
    borders = (served - 1, served, served + 1, 2 * served - 1, 2 * served + 1)
    return [1, 17, 1025, served + 1] if quick else [*SMALL, *borders]


def skips(served: int, quick: bool) -> list[int]:
    """Return offsets of the first element in its block."""
    return [0, served - 1] if quick else [0, 1, 16, 1023, 1024, 1025, served - 17, served - 1]


def runs(served: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Return runs within a block, over borders, empty ones, and distant ones."""
    for starts, lengths in (
        ([], []),
        ([0], [1]),
        ([served - 1], [2]),
        ([3, 900, served - 5, 3 * served], [17, 0, 12, served + 1]),
        (list(range(0, 3 * served, served // 3)), [7] * len(range(0, 3 * served, served // 3))),
    ):
        yield np.array(starts, np.int64), np.array(lengths, np.int64)


def table_kernels(quick: bool) -> None:
    for name, dtype in itertools.product(rng.BUILTIN, declared.FORMS):
        table, scale = rng.builtin(name), rng.binary32(0.3)
        bits, form, served = scaled_bits(table, scale, dtype), declared.FORMS[dtype], WORDS * (32 // table.bits)
        given = bits, table.bits, scale / 65536 if name == "uniform16" else 0.0, form, *KEY
        for size, skip in itertools.product(around(served, quick), skips(served, quick)):
            run(declared.FILL, np.zeros(size, bits.dtype), 5, skip, *given)
        for size in around(served, quick):
            run(declared.FINGERPRINT_BLOCKS, np.zeros(served, bits.dtype), size, 5, *given)
        filled(declared.FILL_RUNS, bits.dtype, served, given)


def filled(kernel: Kernel, dtype: np.dtype, served: int, given: tuple[Any, ...]) -> None:
    for (starts, lengths), part in itertools.product(runs(served), (0, served)):
        run(kernel, np.zeros(lengths.sum(), dtype), starts, lengths, np.zeros(part, dtype), served, *given)


def formula_kernels(quick: bool) -> None:
    served, scale = 2 * WORDS, rng.binary32(0.02)
    forms = [(np.uint32, 0, coefficients()), (np.uint16, 1, coefficients()), (np.uint16, 2, coefficients())]
    fitted = fits.fitted(scale)
    assert fitted is not None
    for dtype, form, rows in [*forms, (np.uint16, declared.FITTED, fitted)]:
        given = rows, scale, form, *KEY
        for size, skip in itertools.product(around(served, quick), skips(served, quick)):
            run(declared.FILL_NORMAL16, np.zeros(size, dtype), 5, skip, *given)
        for size in around(served, quick):
            run(declared.FINGERPRINT_NORMAL16, np.zeros(served, dtype), size, 5, *given)
        filled(declared.FILL_RUNS_NORMAL16, np.dtype(dtype), served, given)
        for blocks in (0, 1, 2, 3):
            words = np.arange(blocks * WORDS, dtype=np.uint32) * np.uint32(2654435761)
            run(declared.BLOCKS16, np.zeros(blocks * served, dtype), words, rows, scale, form)


def fingerprints(quick: bool) -> None:
    for size, dtype in itertools.product(around(2048, quick), (np.uint16, np.uint32)):
        run(declared.FINGERPRINT, np.arange(size).astype(dtype), 2**40 + 3)


def products(quick: bool) -> None:
    columns = [1, 33, 1024, 1056] if quick else [1, 2, 15, 17, 33, 63, 64, 65, 511, 512, 513, 1000, 1024, 1025, 2816]
    inputs = [1, 2, 9] if quick else [*range(1, 10), 16, 17, 64, 65]
    for width, n in itertools.product(columns, inputs):
        x = np.random.default_rng(n).standard_normal(n * width).astype(np.float32)
        held = layout.bits_around(width)
        for rows, begin, end in ((1, 0, 1), (3, 1, 2), (5, 0, 0), (40, 0, 40), (40, 37, 40), (170, 3, 165)):
            space = np.zeros(layout.product_space(end - begin, width), np.uint32)
            out, sizes = np.zeros(n * rows, np.float32), (rows, held, width, begin, end)
            run(declared_products.PRODUCT, out, x, space, *sizes, 0.3, *KEY, working=2)
    for blocks in (0, 1, 3):
        run(declared_products.SIGNS, np.zeros(blocks * WORDS, np.uint32), 2**33 + 5, *KEY)
    for width, n in itertools.product(columns, inputs):
        transposed(width, n)


def transposed(width: int, n: int) -> None:
    chunks = -(-width // layout.CHUNK)
    space = np.zeros(layout.transposed_space(chunks), np.uint32)
    for stride, rows, skip, fresh in ((1, 1, 0, 1), (40, 33, 31, 0), (600, 600, 5, 1), (700, 513, 1000, 0)):
        x = np.random.default_rng(n).standard_normal((n - 1) * stride + rows).astype(np.float32)
        bits = np.arange(layout.bits_space(skip, rows, width), dtype=np.uint32) * np.uint32(2654435761)
        out = np.ones(n * chunks * layout.CHUNK, np.float32)
        sizes = chunks * layout.CHUNK, stride, skip, rows, width
        for of_it in ((0, n, 0, chunks), (n - 1, n, chunks - 1, chunks)):
            run(declared_products.TRANSPOSED, out, x, space, bits, *sizes, *of_it, fresh, working=2)
    for begin, end in ((0, n), (n - 1, n), (n, n)):
        run(declared_products.ORDERED, np.zeros(n * width, np.float32), out, sizes[0], width, begin, end, 0.3)


def dots(quick: bool) -> None:
    columns = [1, 64, 65] if quick else [1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200]
    inputs = [1, 6, 7] if quick else range(1, 15)
    random = np.random.default_rng(1)
    for width, n, rows in itertools.product(columns, inputs, (1, 2, 255, 256, 257)):
        block = random.integers(0, 2**14, rows * width, np.uint16)
        space = np.zeros(layout.dots_space(n), np.uint32)
        for start, behind, fresh in ((0, 0, 1), (3, 0, 0), (1, 2, 1)):
            stride = start + rows + behind
            x, out = random.integers(0, 2**14, n * stride, np.uint16), np.ones(n * width, np.float32)
            run(declared_products.DOTS, out, x, block, space, start, stride, width, 0, width, fresh, working=3)
            run(declared_products.DOTS, out, x, block, space, start, stride, width, width // 2, width, fresh, working=3)


def callers(quick: bool) -> None:
    """Call the functions that give memory to kernels, in pieces and threads."""
    for name, dtype in itertools.product(("normal16", "sign1", "uniform16"), declared.FORMS):
        source = rng.Source(3, "guard", rng.builtin(name), rng.binary32(0.3), dtype)
        for size in (1, 2049, 40_000) if quick else (1, 2049, 32_769, (1 << 18) + 1, 1_000_003):
            bits = np.zeros(size, np.uint32 if dtype == "float32" else np.uint16)
            due = bits.copy()
            cpu.fill_bits(due, source, 77)
            for behind in (True, False):
                given = Guarded(bits, behind)
                cpu.fill_bits(given.array, source, 77)
                assert np.array_equal(given.array, due)
                assert cpu.fingerprint_bits(given.array, 77) == cpu.fingerprint_bits(due, 77)
                calls["fill_bits"] += 1


def main(quick: bool) -> None:
    parts: list[Callable[[bool], None]] = [table_kernels, fingerprints, products, callers]
    parts += [formula_kernels] if declared.FORMULA else []
    parts += [dots] if narrow._has_dots() else []
    for part in parts:
        part(quick)
    print(*(f"{name} {count}" for name, count in sorted(calls.items())), sep="\n")
    print(f"{sum(calls.values())} calls on guarded memory, none beyond it")


if __name__ == "__main__":
    main("quick" in sys.argv[1:])
