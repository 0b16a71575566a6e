"""The coding ``trellis8``, element by element: codings.md, section 6."""

import numpy as np

from .pack import Tensor
from .values import from_bits, little_endian, to_bits

NEXT = [(0, 1), (2, 3), (5, 4), (7, 6), (1, 0), (3, 2), (4, 5), (6, 7)]
LOW = 2**15
Table = list[int]


def lanes_of(count: int) -> int:
    """The number of lanes."""
    lanes = 1
    while lanes < 64 and 2 * lanes <= count / 4096:
        lanes *= 2
    return lanes


def matrix(shape: list[int]) -> tuple[int, int]:
    """Rows and columns."""
    if len(shape) < 2:
        return 1, int(np.prod(shape, dtype=int))
    return shape[0], int(np.prod(shape[1:], dtype=int))


def symbol_of(magnitude: int) -> tuple[int, int]:
    """A magnitude's symbol, and how many raw bits follow it."""
    raw = max(magnitude.bit_length() - 4, 0)
    return 8 * raw + (magnitude >> raw), raw


def interval(table: Table, level: int) -> tuple[int, int]:
    """Frequency and start of a level's symbol with its sign."""
    symbol = symbol_of(abs(level))[0]
    if symbol == 0:
        return 2 * table[0], 0
    start = 2 * sum(table[:symbol])
    return table[symbol], start + (table[symbol] if level < 0 else 0)


def quantisers(levels: list[int]) -> list[int]:
    """0 or 1 for each element."""
    lanes = lanes_of(len(levels))
    states, found = [0] * lanes, []
    for i, level in enumerate(levels):
        state = states[i % lanes]
        found.append(state & 1)
        states[i % lanes] = NEXT[state][level & 1]
    return found


def fitting(levels: list[int]) -> Table:
    """A table that holds these levels: of every symbol that is there as much as of another, the rest for the first."""
    symbols = sorted({symbol_of(abs(level))[0] for level in levels} or {0})
    table = [0] * (symbols[-1] + 1)
    for symbol in symbols:
        table[symbol] = 2048 // len(symbols)
    table[symbols[0]] += 2048 - sum(table)
    return table


def head(step: int, tables: list[Table], order: int = 0, classes: list[int] | None = None) -> bytes:
    """All before the states. ``step``: bits of a bfloat16 number; ``tables``: two of each class."""
    made = bytearray([order, len(tables) // 2, step & 255, step >> 8])
    for table in tables:
        made.append(len(table))
        for share in table:
            made += bytes([share]) if share < 128 else bytes([share % 128 + 128, share // 128])
    if classes is not None:
        padded = classes + [0] * (len(classes) % 2)
        made += bytes(low | high << 4 for low, high in zip(padded[::2], padded[1::2], strict=True))
    return bytes(made)


def body(levels: list[int], kinds: list[int], tables: list[Table]) -> bytes:
    """States and words. ``kinds``: the class of each element."""
    lanes = lanes_of(len(levels))
    states, words = [LOW] * lanes, []
    seconds = quantisers(levels)
    for i in reversed(range(len(levels))):
        x, level = states[i % lanes], levels[i]
        _, raw = symbol_of(abs(level))
        if x >= 2 ** (31 - raw):
            words.append(x % 65536)
            x //= 65536
        x = x * 2**raw + abs(level) % 2**raw
        frequency, start = interval(tables[2 * kinds[i] + seconds[i]], level)
        if x >= frequency * 2**19:
            words.append(x % 65536)
            x //= 65536
        states[i % lanes] = x // frequency * 4096 + start + x % frequency
    return b"".join(state.to_bytes(4, "little") for state in states) + b"".join(
        word.to_bytes(2, "little") for word in reversed(words)
    )


def coded(
    levels: list[int], shape: list[int], step: int = 0x3E00, order: int = 0, classes: list[int] | None = None
) -> bytes:
    """The bytes of ``P.codes``, with tables that fit the levels, which come in the order in which they are coded."""
    rows, columns = matrix(shape)
    length = rows if order else columns
    kinds = [classes[i // length] if classes else 0 for i in range(len(levels))]
    seconds = quantisers(levels)
    tables = [
        fitting([level for level, *of in zip(levels, kinds, seconds, strict=True) if of == [kind, second]])
        for kind in range(max(kinds) + 1)
        for second in (0, 1)
    ]
    return head(step, tables, order, classes) + body(levels, kinds, tables)


def decode(data: bytes, shape: list[int], dtype: str) -> bytes:
    """The bytes of a parameter."""
    rows, columns = matrix(shape)
    order, count, at = data[0], data[1], 4
    step = from_bits(np.frombuffer(data[2:4], "<u2"), "bfloat16")[0]
    tables = []
    for _ in range(2 * count):
        table, size, at = [], data[at], at + 1
        while len(table) < size:
            share, at = data[at], at + 1
            if share >= 128:
                share, at = share - 128 + 128 * data[at], at + 1
            table.append(share)
        tables.append(table)
    if order:
        rows, columns = columns, rows
    classes = [0] * rows
    if count > 1:
        classes = [data[at + row // 2] >> 4 * (row % 2) & 15 for row in range(rows)]
        at += (rows + 1) // 2
    lanes = lanes_of(rows * columns)
    states = np.frombuffer(data[at : at + 4 * lanes], "<u4").tolist()
    words = iter(np.frombuffer(data[at + 4 * lanes :], "<u2").tolist())
    paths, wholes = [0] * lanes, []
    for i in range(rows * columns):
        lane = i % lanes
        x, second = states[lane], paths[lane] & 1
        table = tables[2 * classes[i // columns] + second]
        slot, symbol = x % 4096, 0
        while slot >= 2 * sum(table[: symbol + 1]):
            symbol += 1
        first = 2 * sum(table[:symbol])
        negative = symbol > 0 and slot >= first + table[symbol]
        frequency = table[symbol] if symbol else 2 * table[0]
        x = frequency * (x // 4096) + slot - first - (frequency if negative else 0)
        if x < LOW:
            x = x * 65536 + next(words)
        raw = max(symbol // 8 - 1, 0)
        magnitude = symbol if symbol < 16 else (symbol % 8 + 8 << raw) + x % 2**raw
        x >>= raw
        if x < LOW:
            x = x * 65536 + next(words)
        states[lane], paths[lane] = x, NEXT[paths[lane]][magnitude & 1]
        whole = 2 * magnitude - (second if magnitude else 0)
        wholes.append(-whole if negative else whole)
    assert list(words) == []
    assert states == [LOW] * lanes
    values = np.array(wholes, np.float32) * step
    if order:
        values = values.reshape(rows, columns).T.reshape(-1)
    return little_endian(to_bits(values, dtype))


def codes(data: bytes) -> Tensor:
    """The bytes as a tensor."""
    return Tensor("uint8", [len(data)], data)
