"""Encode and decode the entropy-coded stream of ``trellis8``, by kernels or in NumPy (spec: codings, section 6)."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lottapack.codecs.trellis_tables import LOW, MAX_LANES, NEXT, PRECISION, SINGLE, SLOTS, STATES, SYMBOLS, bucket
from lottapack.errors import UnsupportedError
from lottapack.rng.kernels.kernel import Kernel, Memory
from lottapack.rng.threads import default, run_all

_MODULE = "lottapack.codecs.trellis_kernels"

BUCKETS = np.array([base << 4 | raw for base, raw in map(bucket, range(SYMBOLS))], np.uint32)
_NEXT = np.array(NEXT, np.uint32)
_SYMBOLS = np.repeat(np.arange(SYMBOLS, dtype=np.uint32), 2)[1:] << 24
_SYMBOLS[2::2] |= 1 << 31  # 0, 1, -1, 2, -2, ...
_FEW = 1 / 64
"""The share of elements with raw bits up to which a branch over them is nearly always predicted."""


def _rows_fit(count: int, classes: Memory, tables: int, row: int) -> bool:
    owner: Any = classes.owner
    return row > 0 and classes.size * row >= count and (not classes.size or int(owner.max()) < tables)


def _decode_fits(
    out: Memory,
    state: Memory,
    words: Memory,
    slots: Memory,
    buckets: Memory,
    classes: Memory,
    lanes: int,
    first: int,
    row: int,
    _raws: int,
    _step: float,
) -> bool:
    tables = slots.size // (2 * SLOTS)
    whole = 1 <= lanes <= MAX_LANES and state.size == 2 * lanes + 1
    return (
        whole
        and words.size >= 2
        and buckets.size == SYMBOLS
        and slots.size == tables * 2 * SLOTS
        and _rows_fit(first + out.size, classes, tables, row)
    )


_DECODE = Kernel(_MODULE, "decode", "=f32[] =u32[] u16[] u32[] u32[] u8[] u64 u64 u64 u64 f32", _decode_fits)
_SEARCH = Kernel(
    _MODULE,
    "search",
    "f32[] =i32[] =i32[] u8[] f32[,] u64 u64 u64 f32 f32",
    lambda values, survivors, found, classes, costs, lane, lanes, row, _step, _weight: (
        found.size == values.size
        and lane < lanes
        and survivors.size >= STATES * -(-(values.size - lane) // lanes)
        and costs.shape[1] > 2
        and _rows_fit(values.size, classes, costs.shape[0] // 2, row)
    ),
)
_COUNT = Kernel(
    _MODULE,
    "count",
    "i32[] =u8[] =u32[] =u32[] u8[] u64",
    lambda levels, seconds, counts, trellis, classes, row: (
        seconds.size == levels.size
        and trellis.size > 0
        and _rows_fit(levels.size, classes, counts.size // (2 * SYMBOLS), row)
    ),
)
_ENCODE = Kernel(
    _MODULE,
    "encode",
    "=u16[] =u32[] i32[] u8[] u32[] u32[] u8[] u64",
    lambda words, state, levels, seconds, frequencies, starts, classes, row: (
        words.size >= 2 * levels.size
        and seconds.size == levels.size
        and state.size > 0
        and frequencies.size == starts.size
        and _rows_fit(levels.size, classes, frequencies.size // (2 * SYMBOLS), row)
    ),
)

KERNELS: Final = _DECODE, _SEARCH, _COUNT, _ENCODE


class Reader:
    """Decodes a stream piece by piece.

    ``states``: the first state of each lane. ``tables``: the shares of the magnitudes of each table, see slots_of().
    ``classes``: the class of each row of ``row`` elements.
    """

    def __init__(
        self,
        states: NDArray[np.uint32],
        words: NDArray[np.uint16],
        tables: Sequence[Sequence[int]],
        classes: NDArray[np.uint8],
        row: int,
        step: float,
    ) -> None:
        self.lanes = len(states)
        self.state = np.zeros(2 * self.lanes + 1, np.uint32)
        self.state[: self.lanes] = states
        self.count = len(words)
        self.words = np.empty(self.count + 2, np.uint16)  # the decoder may read two words past the end
        self.words[: self.count], self.words[self.count :] = words, 0
        self.slots, self.classes, self.row, self.step = slots_of(tables), classes, row, step
        share = sum(sum(shares[SINGLE:]) for shares in tables) / (len(tables) * SLOTS // 2)
        self.raws = 0 if share == 0 else 1 if share < _FEW else 2
        self.done = 0

    def into(self, out: NDArray[np.float32]) -> bool:
        """Decode the next elements; return False if the stream ends early. All pieces but the last have whole lanes."""
        first, self.done = self.done, self.done + len(out)
        begin, skip = divmod(first, self.row)
        classes = self.classes[begin : -(-self.done // self.row)]
        given = (self.words, self.slots, BUCKETS, classes, self.lanes, skip, self.row, self.raws, self.step)
        try:
            return _DECODE(out, self.state, *given) == 0
        except UnsupportedError:  # neither a compiler nor a compiled kernel is available
            return self.in_numpy(out, first)

    def finished(self) -> bool:
        """Return whether every word was used and every lane returned to its first state."""
        return int(self.state[-1]) == self.count and bool((self.state[: self.lanes] == LOW).all())

    def in_numpy(self, out: NDArray[np.float32], first: int) -> bool:
        """Decode like the kernel, all lanes at once."""
        x, trellis = self.state[: self.lanes].astype(np.int64), self.state[self.lanes : -1].astype(np.int64)
        rows = self.classes.astype(np.int64)
        for start in range(0, len(out), self.lanes):
            width = min(self.lanes, len(out) - start)
            now, path = x[:width], trellis[:width]
            kind = rows[np.arange(first + start, first + start + width) // self.row]
            second = path & 1
            slot = self.slots[(2 * kind + second) * SLOTS + (now & (SLOTS - 1))].astype(np.int64)
            now = ((slot & (SLOTS - 1)) + 1) * (now >> PRECISION) + ((slot >> PRECISION) & (SLOTS - 1))
            words = BUCKETS[(slot >> 24) & 127].astype(np.int64)
            raw = words & 15
            # A lane reads up to two words before the next lane reads, so the lanes' reads give each word's position.
            due = (now < LOW).astype(np.int64)
            again = (now << 16 * due) >> raw < LOW  # whatever the word is
            begin = int(self.state[-1]) + np.concatenate([[0], np.cumsum(due + again)])
            if begin[-1] > self.count:
                return False
            place = begin[:-1]
            now = np.where(due == 1, now << 16 | self.words[place], now)
            magnitude = (words >> 4) + (now & ((np.int64(1) << raw) - 1))
            now >>= raw
            now = np.where(again, now << 16 | self.words[place + due], now)
            self.state[-1] = begin[-1]
            whole = 2 * magnitude - (second & (magnitude != 0))
            value = whole.astype(np.float32) * np.float32(self.step)
            out[start : start + width] = np.where(slot >> 31, -value, value)
            x[:width], trellis[:width] = now, _NEXT[path, magnitude & 1]
        self.state[: self.lanes], self.state[self.lanes : -1] = x, trellis
        return True


def slots_of(tables: Sequence[Sequence[int]]) -> NDArray[np.uint32]:
    """Return the meaning of each table's 4,096 slots, from the shares of its magnitudes, which add up to 2,048.

    A slot holds the symbol's frequency minus one (12 bits), the slot's index in the symbol (12), the magnitude's number
    (7) and the sign.
    """
    counts, slots = [], []
    for shares in tables:
        frequencies = np.repeat(np.array(shares, np.uint32), 2)[1:]
        frequencies[0] *= 2
        starts = np.cumsum(frequencies, dtype=np.uint32) - frequencies
        counts.append(frequencies)
        slots.append(frequencies - 1 - (starts << 12) + _SYMBOLS[: len(frequencies)])
    places = np.tile(np.arange(SLOTS, dtype=np.uint32) << 12, len(tables))
    return np.repeat(np.concatenate(slots), np.concatenate(counts)) + places


def search(
    values: NDArray[np.float32],
    lanes: int,
    classes: NDArray[np.uint8],
    row: int,
    step: float,
    costs: NDArray[np.float32],
    weight: float,
) -> NDArray[np.int32]:
    """Return the levels of each lane's best path; see the kernel."""
    levels = np.zeros(len(values), np.int32)

    def one(lane: int) -> None:
        survivors = np.empty(STATES * max(1, -(-(len(values) - lane) // lanes)), np.int32)
        _SEARCH(values, survivors, levels, classes, costs, lane, lanes, row, step, weight)

    _SEARCH.prepare()
    run_all([partial(one, lane) for lane in range(min(lanes, len(values)))], default())
    return levels


def counted(
    levels: NDArray[np.int32], lanes: int, classes: NDArray[np.uint8], kinds: int, row: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Return the quantiser of each level, and the count of each symbol, shape (kinds, 2, SYMBOLS)."""
    seconds, counts = np.zeros(len(levels), np.uint8), np.zeros(kinds * 2 * SYMBOLS, np.uint32)
    _COUNT(levels, seconds, counts, np.zeros(lanes, np.uint32), classes, row)
    return seconds, counts.reshape(kinds, 2, SYMBOLS)


def encoded(
    levels: NDArray[np.int32],
    seconds: NDArray[np.uint8],
    lanes: int,
    shares: NDArray[np.uint32],
    classes: NDArray[np.uint8],
    row: int,
) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """Return the states of the lanes and the words."""
    pairs = 2 * shares
    starts = np.cumsum(pairs, -1, dtype=np.uint32) - pairs
    frequencies = shares.copy()
    frequencies[..., 0] *= 2
    words, state = np.empty(2 * len(levels), np.uint16), np.full(lanes, LOW, np.uint32)
    place = _ENCODE(words, state, levels, seconds, frequencies.reshape(-1), starts.reshape(-1), classes, row)
    return state, words[place:].copy()
