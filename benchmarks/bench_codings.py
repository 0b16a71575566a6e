"""Compare rate and distortion of `trellis8` with plain rounding, its entropy, and int8 by row with zstandard.

python benchmarks/bench_codings.py [--million 1]

The values are normal, like those of trained adapters. `zstandard` is optional: without it its columns are left out.
"""

import argparse
import time

import numpy as np

from lottapack.codecs import trellis, trellis_stream, trellis_writer
from lottapack.codecs.trellis import Grid
from lottapack.codecs.trellis_tables import lanes_of

try:
    import zstandard
except ImportError:
    zstandard = None

COLUMNS = 512
ROUNDS = 400
"""Of decoding, of which the quickest counts: a machine with other work slows down single ones."""


def entropy(numbers: np.ndarray) -> float:
    """Return the entropy of the integers, in bits per value."""
    shares = np.unique(numbers, return_counts=True)[1] / numbers.size
    return float(-(shares * np.log2(shares)).sum())


def rms(values: np.ndarray, decoded: np.ndarray) -> float:
    """Return the root mean square error, relative to that of the values."""
    return float(np.sqrt(np.mean((values - decoded) ** 2, dtype=float) / np.mean(values**2, dtype=float)))


def level_entropy(data: bytes, shape: tuple[int, ...], decoded: np.ndarray) -> float:
    """Return the entropy of an encoded tensor's levels given the quantiser, in bits per value."""
    step = float((np.frombuffer(data[2:4], "<u2").astype(np.uint32) << 16).view(np.float32)[0])
    ordered = decoded.reshape(shape).T.reshape(-1) if data[0] else decoded
    lanes = lanes_of(ordered.size)
    levels = trellis_writer._levels_of(np.rint(ordered / np.float32(step)).astype(np.int32), lanes)
    assert levels is not None
    grid = Grid.of(shape, bool(data[0]))
    seconds, _ = trellis_stream.counted(levels, lanes, np.zeros(grid.rows, np.uint8), 1, grid.length)
    return sum(entropy(part) * part.size for b in (0, 1) if (part := levels[seconds == b]).size) / levels.size


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--million", type=float, default=1.0, help="values, in millions")
    rows = int(parser.parse_args().million * 1e6) // COLUMNS
    values = np.random.default_rng(1).normal(0, 0.05, (rows, COLUMNS)).astype(np.float32).reshape(-1)
    shape = (rows, COLUMNS)
    trellis_writer.encode(values[: 1 << 14], (1 << 5, 512), 0.1)  # compiles the kernels
    print(
        "error | trellis8 bits | entropy of its levels | ratio | rounding, entropy | int8 + zstd-22 | encode s | MB/s"
    )
    for error in (0.002, 0.005, 0.01, 0.0453, 0.1, 0.2, 0.4):
        start = time.perf_counter()
        data = trellis_writer.encode(values, shape, error)
        assert data is not None
        took = time.perf_counter() - start
        bits = np.empty(values.size, np.uint32)
        least = float("inf")
        for _ in range(ROUNDS):
            start = time.perf_counter()
            trellis.decode(data, shape, bits, lambda part: part.view(np.uint32))
            least = min(least, time.perf_counter() - start)
        speed = 4 * values.size / least / 1e6
        decoded = bits.view(np.float32)
        reached = rms(values, decoded)
        size, limit = 8 * len(data) / values.size, level_entropy(data, shape, decoded)
        step = reached * float(np.sqrt(np.mean(values**2))) * 12**0.5
        rounded = np.rint(values / step).astype(np.int32)
        packed = "-"
        if zstandard is not None and np.abs(rounded).max() < 128:
            packed = f"{8 * len(zstandard.compress(rounded.astype(np.int8).tobytes(), 22)) / values.size:.3f}"
        print(
            f"{reached:.4f} | {size:.3f} | {limit:.3f} | {size / limit:.4f} | {entropy(rounded):.3f} | {packed} | "
            f"{took:.2f} | {speed:.0f}"
        )


if __name__ == "__main__":
    main()
