"""The encoder of ``trellis8``: choose the step, the path and the tables (spec: codings, sections 6 and 8).

It looks for the largest step that keeps the requested error on a sample of the tensor, and then checks it on the whole
tensor. It recognises values that ``trellis8`` decoded: their step is nearly always the least magnitude.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lottapack.codecs.trellis import Grid
from lottapack.codecs.trellis_stream import counted, encoded, search
from lottapack.codecs.trellis_tables import (
    LARGEST_STEP,
    MAX_CLASSES,
    MAX_LEVEL,
    NEXT,
    SLOTS,
    SMALLEST_STEP,
    SYMBOLS,
    bucket,
    lanes_of,
)

Floats = NDArray[np.float32]
Levels = NDArray[np.int32]
Classes = NDArray[np.uint8]

_SAMPLE = 1 << 17
_TRIES = 6
_WEIGHT = 2 * math.log(2)
"""The price of a bit in mean squared errors: the slope of a fine quantiser's distortion over its rate."""

_FEW = 4
"""The magnitudes of values that are coded exactly because they are multiples of four steps."""

_RAW = np.array([bucket(symbol)[1] for symbol in range(SYMBOLS)], np.int64)
_HALF = SLOTS // 2


@dataclass(frozen=True)
class _Model:
    """The class of each row, and the bits of each level, shape (classes, 2, SYMBOLS)."""

    classes: Classes
    bits: Floats


def encode(values: Floats, shape: tuple[int, ...], error: float, dtype: str = "float32") -> bytes | None:
    """Encode finite values, shape (n,), in the parameter's order; return None if the coding does not suit them.

    ``error``: the largest root mean square error, relative to that of the values. ``dtype``: the parameter's dtype,
    which holds the values exactly.
    """
    size = float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if len(values) else 0.0
    if not size:
        return None
    found = _exactly(values, shape, dtype)
    if found is not None:
        return found
    columns = _columns(values, shape)
    grid = Grid.of(shape, columns)
    ordered = _ordered(values, grid, columns)
    step, levels = _quantised(ordered, grid, error * size, dtype)
    if levels is None:
        return None
    decoded = _made(levels, step, dtype)
    if columns or _least_magnitude(decoded) != step:  # else _exactly() finds this step and its only path
        plain = _ordered(decoded, Grid(grid.length, grid.rows), columns)
        found = _exactly(plain, shape, dtype)
    return _written(levels, grid, columns, step) if found is None else found


def _exactly(values: Floats, shape: tuple[int, ...], dtype: str) -> bytes | None:
    """Encode values that a step and levels give exactly, such as decoded ones; return None for others."""
    if np.signbit(values[values == 0]).any():
        return None
    grids = [Grid.of(shape, columns) for columns in ((False, True) if len(shape) > 1 else (False,))]
    orders = [_ordered(values, grid, bool(columns)) for columns, grid in enumerate(grids)]
    for step in _steps(_least_magnitude(values), float(np.abs(values).max()), dtype):
        for columns, (grid, ordered) in enumerate(zip(grids, orders, strict=True)):
            levels = _levels(ordered, step, dtype)
            if levels is not None:
                return _written(levels, grid, bool(columns), step)
    return None


def _ordered(values: Floats, grid: Grid, columns: bool) -> Floats:
    """Return values in the order of a grid: transposed, if it consists of columns."""
    return np.ascontiguousarray(values.reshape(grid.length, grid.rows).T).reshape(-1) if columns else values


def _columns(values: Floats, shape: tuple[int, ...]) -> bool:
    """Return whether sizes differ more between columns than between rows, counting the cost of storing the classes."""
    if len(shape) < 2:
        return False
    squares = np.square(values.reshape(shape[0], -1), dtype=np.float64)
    gains = []
    for axis in (1, 0):
        means = squares.mean(axis)
        spread = np.log2(means.mean() / np.maximum(means, means.mean() * 2.0**-40)).mean() / 2
        gains.append(spread - 4 / squares.shape[axis])
    return bool(gains[1] > max(gains[0], 0))


def _quantised(values: Floats, grid: Grid, target: float, dtype: str) -> tuple[float, Levels | None]:
    """Return the largest step that keeps the error, and its levels."""
    peak = float(np.abs(values).max())
    step = _on_grid(2 * target)
    if len(values) > 2 * _SAMPLE:
        part = Grid(max(1, _SAMPLE // grid.length), min(grid.length, _SAMPLE))
        apart = np.linspace(0, grid.rows - part.rows, part.rows, dtype=np.int64) + np.arange(part.rows)
        apart = np.minimum(apart, grid.rows - 1)
        sample = np.ascontiguousarray(values.reshape(grid.rows, grid.length)[apart, : part.length]).reshape(-1)
        for _ in range(3):
            levels, _ = _path(sample, part, max(step, _least(float(np.abs(sample).max()))))
            step = _on_grid(step * target / max(_error(sample, levels, step), 1e-30))
    least = _least(peak)
    if step < least:
        if _on_grid(least) > LARGEST_STEP:
            return step, None
        step = least
    best: tuple[float, Levels | None] = (step, None)
    for _ in range(_TRIES):
        if not SMALLEST_STEP <= step <= LARGEST_STEP or step < least:
            break
        levels, _ = _path(values, grid, step)
        error = _error(values, levels, step, dtype)
        if error <= target:
            if best[1] is None or step > best[0]:
                best = step, levels
            if error >= 0.99 * target:
                break
            following = _on_grid(step * min(4.0, target / max(error, 1e-30)) * 0.9995)
            if following <= step:
                break
        else:
            following = min(_on_grid(step * target / error), _before(step))
            if best[1] is not None and following <= best[0]:
                break
        step = following
    return best


def _least(peak: float) -> float:
    """Return the least step whose levels reach a magnitude."""
    return _before(_before(peak / (2 * MAX_LEVEL - 8)), -2)


def _on_grid(step: float) -> float:
    """Return the largest bfloat16 number that does not exceed ``step``."""
    bits = np.array(step, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return float(bits.view(np.float32))


def _before(step: float, count: int = 1) -> float:
    bits = int(np.array(_on_grid(step), np.float32).view(np.uint32)) - (count << 16)
    return float(np.array(max(bits, 0), np.uint32).view(np.float32))


def _path(values: Floats, grid: Grid, step: float) -> tuple[Levels, _Model]:
    """Choose levels with little error for their bits; a first, plain path gives the costs of levels."""
    lanes = lanes_of(len(values))
    most = int(float(np.abs(values).max()) / step / 2) + 3
    classes = np.zeros(grid.rows, np.uint8)
    costs = np.zeros((2, most + 1), np.float32)
    levels = search(values, lanes, classes, grid.length, step, costs, 0.0)
    model = _model(levels, grid, lanes)
    for _ in range(2):
        model = _model(levels, grid, lanes)
        magnitudes = np.arange(most + 1)
        costs = np.ascontiguousarray(model.bits[..., _symbols(magnitudes)].reshape(-1, most + 1))
        # The weight is relative to the step: a coarse quantiser's own error would exceed a fine one's slope.
        error = _error(values, levels, step) / step
        levels = search(values, lanes, model.classes, grid.length, step, costs, _WEIGHT * error * error)
    return levels, model


def _symbols(magnitudes: NDArray[Any]) -> NDArray[np.int64]:
    raw = np.maximum(np.frexp(magnitudes.astype(np.float64))[1] - 4, 0)
    symbols: NDArray[np.int64] = 8 * raw + (magnitudes >> raw)
    return symbols


def _error(values: Floats, levels: Levels, step: float, dtype: str = "float32") -> float:
    """Return the root mean square error."""
    made = _made(levels, step, dtype)
    made -= values
    return math.sqrt(float(np.einsum("i,i->", made, made, dtype=np.float64)) / len(values))


def _made(levels: Levels, step: float, dtype: str) -> Floats:
    """Return the values that a decoder makes of levels."""
    made = _wholes(levels, lanes_of(len(levels))).astype(np.float32)
    made *= np.float32(step)
    return _rounded(made, dtype)


def _rounded(values: Floats, dtype: str) -> Floats:
    """Round values once to a dtype."""
    if dtype == "float32":
        return values
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(np.float32)
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def _wholes(levels: Levels, lanes: int) -> Levels:
    """Return the multiples of the step that levels stand for."""
    seconds, _ = counted(levels, lanes, np.zeros(1, np.uint8), 1, max(1, len(levels)))
    wholes: Levels = 2 * levels - np.sign(levels) * seconds.astype(np.int32)
    return wholes


def _model(levels: Levels, grid: Grid, lanes: int) -> _Model:
    """Return the classes of rows that take the fewest bits, and the costs of levels."""
    best: tuple[float, _Model] | None = None
    for classes in _sorted_rows(levels, grid):
        kinds = int(classes.max()) + 1
        _, counts = counted(levels, lanes, classes, kinds, grid.length)
        totals = np.maximum(counts.sum(-1, keepdims=True), 1)
        pairs = np.maximum(counts, 0.25) / totals
        bits = -np.log2(pairs) + (np.arange(SYMBOLS) > 0) + _RAW
        bits = np.rint(bits * 64) / 64  # so that no result depends on the last digit of a logarithm
        whole = float((counts * bits).sum()) + 10.0 * np.count_nonzero(counts) + (4.0 * grid.rows if kinds > 1 else 0)
        if best is None or whole < best[0]:
            best = whole, _Model(classes, bits.astype(np.float32))
    assert best is not None
    return best[1]


def _sorted_rows(levels: Levels, grid: Grid) -> list[Classes]:
    """Return ways to class rows: all in one, or by mean magnitude in steps of half an octave, one or two octaves."""
    means = np.abs(levels).reshape(grid.rows, grid.length).sum(1, dtype=np.int64)
    ways = [np.zeros(grid.rows, np.uint8)]
    for width in (0.5, 1.0, 2.0):
        octaves = np.floor(np.log2(np.maximum(means, 1) + 0.5 * grid.length) / width).astype(np.int64)
        _, classes = np.unique(octaves, return_inverse=True)
        if 1 < int(classes.max()) + 1 <= MAX_CLASSES:
            ways.append(classes.astype(np.uint8))
    return ways


def _shares(counts: NDArray[Any]) -> NDArray[np.uint32]:
    """Round counts to shares that add up to 2,048; every symbol that occurs gets at least one. Uses integers only."""
    many: list[int] = counts.tolist()
    total = sum(many)
    if not total:
        return np.array([_HALF], np.uint32)
    shares = [max(1, amount * _HALF // total) if amount else 0 for amount in many]
    while (left := _HALF - sum(shares)) != 0:
        if left > 0:  # add where one more saves most
            place = max(range(len(many)), key=lambda m: (many[m] * 2**40 // (2 * shares[m] + 1) if many[m] else -1, -m))
        else:
            place = min(
                (m for m in range(len(many)) if shares[m] > 1),
                key=lambda m: (many[m] * 2**40 // (2 * shares[m] - 1), m),
            )
        shares[place] += 1 if left > 0 else -1
    last = max(m for m, share in enumerate(shares) if share)
    return np.array(shares[: last + 1], np.uint32)


def _written(levels: Levels, grid: Grid, columns: bool, step: float) -> bytes:
    """Return the coded bytes of levels; their form depends on nothing else."""
    lanes = lanes_of(len(levels))
    classes = _model(levels, grid, lanes).classes
    kinds = int(classes.max()) + 1
    seconds, counts = counted(levels, lanes, classes, kinds, grid.length)
    shares = np.zeros((kinds, 2, SYMBOLS), np.uint32)
    head = bytearray([columns, kinds])
    head += (int(np.array(step, np.float32).view(np.uint32)) >> 16).to_bytes(2, "little")
    for kind in range(kinds):
        for second in range(2):
            table = _shares(counts[kind, second])
            shares[kind, second, : len(table)] = table
            head.append(len(table))
            for share in table.tolist():
                head += bytes([share]) if share < 128 else bytes([share & 127 | 128, share >> 7])
    if kinds > 1:
        halves = np.zeros(grid.rows + grid.rows % 2, np.uint8)
        halves[: grid.rows] = classes
        head += (halves[::2] | halves[1::2] << 4).tobytes()
    states, words = encoded(levels, seconds, lanes, shares, classes, grid.length)
    return bytes(head) + states.astype("<u4").tobytes() + words.astype("<u2").tobytes()


def _least_magnitude(values: Floats) -> float:
    magnitudes = np.abs(values)
    return float(np.min(magnitudes, where=magnitudes > 0, initial=np.inf))


def _steps(least: float, most: float, dtype: str) -> list[float]:
    """Return the steps of which the least magnitude is a multiple, the largest first. It is nearly always the step.

    It is not where magnitudes differ little, as in weights of norms. All are multiples of some steps in a narrow dtype,
    so there only the larger steps are tried.
    """
    if not SMALLEST_STEP <= least < np.inf:
        return []
    wholes = np.arange(1, 2 * MAX_LEVEL if dtype == "float32" else 256)
    bits = (np.float32(least) / wholes.astype(np.float32)).view(np.uint32) & np.uint32(0xFFFF0000)
    either = [bits] if dtype == "float32" else [bits + np.uint32(0x10000), bits]  # a narrow dtype has rounded it
    steps = np.stack(either, 1).view(np.float32)
    with np.errstate(over="ignore"):
        fits = _rounded(wholes.astype(np.float32)[:, None] * steps, dtype) == np.float32(least)
        fits &= (steps >= SMALLEST_STEP) & (steps <= LARGEST_STEP) & (most / steps <= 2 * MAX_LEVEL - 1)
    return [float(step) for step in steps[fits]]


def _levels(values: Floats, step: float, dtype: str) -> Levels | None:
    """Return the levels that give values exactly with a step, or None. The first values nearly always decide.

    Multiples of four steps always have levels. That is a choice of the encoder only where there are few of them.
    """
    lanes, levels = lanes_of(len(values)), None
    for count in {min(len(values), 16 * lanes): None, len(values): None}:
        part = values[:count]
        wholes = np.rint(part / np.float32(step)).astype(np.int32)
        if not np.array_equal(_rounded(wholes.astype(np.float32) * np.float32(step), dtype), part):
            return None
        levels = _levels_of(wholes, lanes)
        if levels is None:
            return None
    return None if not (wholes % 4).any() and len(np.unique(np.abs(wholes))) > _FEW else levels


def _levels_of(wholes: Levels, lanes: int) -> Levels | None:
    """Return the only path that gives these multiples, or None. Works on all lanes at once."""
    steps = -(-len(wholes) // lanes)
    padded = np.zeros(steps * lanes, np.int32)
    padded[: len(wholes)] = wholes
    table = padded.reshape(steps, lanes)
    signs, sizes = np.sign(table), np.abs(table)
    states = np.zeros(lanes, np.int64)
    following = np.array(NEXT)
    levels = np.empty_like(sizes)
    for at, row in enumerate(sizes):
        second = states & 1
        if ((row + second) % 2 * (row > 0)).any():
            return None
        levels[at] = (row + second) // 2 * (row > 0)
        states = following[states, levels[at] & 1]
    return np.ascontiguousarray((levels * signs).reshape(-1)[: len(wholes)])
