"""The fixed numbers of ``trellis8`` (spec: codings, section 6)."""

from typing import Final

STATES: Final = 8
"""Of the trellis."""

NEXT: Final = ((0, 1), (2, 3), (5, 4), (7, 6), (1, 0), (3, 2), (4, 5), (6, 7))
"""The state that follows each, after an even level and after an odd one. Odd states use the second quantiser."""

NEXT_BITS: Final = sum(
    after << 4 * (2 * state + odd) for state, pair in enumerate(NEXT) for odd, after in enumerate(pair)
)
"""The same, in four bits each."""

PRECISION: Final = 12
SLOTS: Final = 1 << PRECISION
"""The frequencies of a table's symbols, both signs of each, add up to this."""

LOW: Final = 1 << 15
"""A decoder's state is at least this, and less than 2**16 times as much."""

SYMBOLS: Final = 104
"""Classes of magnitudes: 0 to 15 alone, then eight to an octave, up to 2**15 - 1."""

MAX_LEVEL: Final = (1 << 15) - 1
MAX_CLASSES: Final = 16
MAX_LANES: Final = 64
PER_LANE: Final = 4096
"""Elements for each of several lanes, at least."""

SMALLEST_STEP, LARGEST_STEP = 2.0**-100, 2.0**100


def bucket(symbol: int) -> tuple[int, int]:
    """The least magnitude of a symbol, and how many raw bits follow it."""
    if symbol < 16:
        return symbol, 0
    raw = symbol // 8 - 1
    return (symbol % 8 + 8) << raw, raw


def lanes_of(count: int) -> int:
    """The number of lanes of a tensor: a power of two."""
    lanes = 1
    while lanes < MAX_LANES and 2 * lanes * PER_LANE <= count:
        lanes *= 2
    return lanes
