"""Check the object files for arm64 that a wheel carries, on such a processor: ``run.sh`` emulates one.

Nothing is compiled here. Fills must have the reference's bits, and products must be summed in the stated order.
"""

import platform
import sys
from itertools import product

import numpy as np

from lottapack import rng
from lottapack.products import declared, layout
from lottapack.rng import cpu, reference, selfcheck
from lottapack.rng.kernels import object_files, shipped

PLACES = ((0, 1), (1, 7), (1023, 1030), (4095, 9000), (2**35 - 1500, 3000), (2**53 + 5, 2100), (2**63 - 5000, 5000))
"""First elements and counts."""
SHAPES = ((37, 1000), (5, 4096), (100, 33), (3, 1), (70, 1024), (40, 1056))
SIGNS = rng.Source(2**63 + 42, "layers.0.weight", rng.builtin("sign1"), 1.0, "float32")
SCALE = rng.binary32(0.3)


def bits_of(source: rng.Source, start: int, count: int) -> np.ndarray:
    bits = np.empty(count, f"u{4 if source.dtype == 'float32' else 2}")
    cpu.fill_bits(bits, source, start)
    return bits


def fills() -> int:
    """Return the number of comparisons."""
    selfcheck.ensure("numba", "cpu", lambda *given: cpu.fingerprint_bits(bits_of(*given), given[1]))
    tables = [name for name in rng.BUILTIN if name != "hadamard"]
    for table, dtype in product(tables, ("float32", "bfloat16", "float16")):
        source = rng.Source(2**63 + 1, "layer", rng.builtin(table), SCALE, dtype)
        for start, count in PLACES:
            assert np.array_equal(bits_of(source, start, count), reference.elements(source, start, count)), table
        due = reference.fingerprint(reference.elements(source, 0, 5000))
        assert cpu.fingerprint_of(source, 5000) == due, table
    return len(tables) * 3 * len(PLACES)


def in_stated_order(x: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Return the products of x, shape (n, terms), with signs, shape (outputs, terms); see products/kernels.py."""
    terms = x[:, None, :] * signs[None, :, :]
    t = np.pad(terms, ((0, 0), (0, 0), (0, -terms.shape[-1] % 4))).reshape(*terms.shape[:2], -1, 4)
    fours = (t[..., 0] + t[..., 1]) + (t[..., 2] + t[..., 3])
    out = np.zeros(terms.shape[:2], np.float32)
    for first in range(0, fours.shape[-1], layout.TERMS // 4):
        part = np.zeros_like(out)
        for four in np.moveaxis(fours[..., first : first + layout.TERMS // 4], -1, 0):
            part += four
        out += part
    return out * np.float32(SCALE)


def forward(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    out, work = np.empty((len(x), rows), np.float32), np.empty(layout.product_space(rows, columns), np.uint32)
    held = layout.bits_around(columns)
    declared.PRODUCT(
        out.reshape(-1), x.reshape(-1), work, rows, held, columns, 0, rows, np.float32(SCALE), *SIGNS.halves
    )
    return out


def transposed(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    chunks = -(-columns // layout.CHUNK)
    width, blocks = chunks * layout.CHUNK, -(-layout.bits_space(0, rows, columns) // 1024)
    bits, work = np.empty(1024 * blocks, np.uint32), np.empty(layout.transposed_space(chunks), np.uint32)
    declared.SIGNS(bits, 0, *SIGNS.halves)
    out = np.empty((len(x), width), np.float32)
    sizes = width, rows, 0, rows, columns, 0, len(x), 0, chunks, 1
    declared.TRANSPOSED(out.reshape(-1), x.reshape(-1), work, bits, *sizes)
    found = np.empty((len(x), columns), np.float32)
    declared.ORDERED(found.reshape(-1), out.reshape(-1), width, columns, 0, len(x), np.float32(SCALE))
    return found


def products() -> int:
    """Return the number of comparisons."""
    chance, count = np.random.default_rng(0), 0
    for (rows, columns), inputs in product(SHAPES, (1, 2, 3, 5, 15)):
        signs = reference.elements(SIGNS, 0, rows * columns).view(np.float32).reshape(rows, columns)
        for multiply, matrix in ((forward, signs), (transposed, signs.T)):
            x = chance.standard_normal((inputs, matrix.shape[1]), np.float32)
            found, due = multiply(x, rows, columns), in_stated_order(x, matrix)
            assert np.array_equal(found.view(np.uint32), due.view(np.uint32)), (multiply, rows, columns, inputs)
            count += 1
    return count


def main() -> None:
    sys.modules["numba"] = None  # type: ignore[assignment]  # so that importing it fails
    object_files.read = lambda *_: None  # type: ignore[assignment]
    cpu.prepare()
    print(f"{platform.machine()}: {len(shipped._listed())} object files, {fills()} fills, {products()} products")


if __name__ == "__main__":
    main()
