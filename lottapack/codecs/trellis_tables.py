"""The constants of ``trellis8`` (spec: codings, section 6)."""

from typing import Final

STATES: Final = 8
"""The number of states of the trellis."""

NEXT: Final = ((0, 1), (2, 3), (5, 4), (7, 6), (1, 0), (3, 2), (4, 5), (6, 7))
"""The next state after an even and after an odd level. Odd states use the second quantiser."""

NEXT_BITS: Final = sum(
    after << 4 * (2 * state + odd) for state, pair in enumerate(NEXT) for odd, after in enumerate(pair)
)
"""The same table with four bits for each entry."""

PRECISION: Final = 12
SLOTS: Final = 1 << PRECISION
"""The sum of the frequencies of a table's symbols, counting both signs."""

LOW: Final = 1 << 15
"""A decoder's state is from this to less than 2**16 times this."""

SYMBOLS: Final = 104
"""Classes of magnitudes: 0 to 15 singly, then eight for each octave, up to 2**15 - 1."""

SINGLE: Final = 16
"""The first symbol with raw bits."""

MAX_LEVEL: Final = (1 << 15) - 1
MAX_CLASSES: Final = 16
MAX_LANES: Final = 64
PER_LANE: Final = 4096
"""The fewest elements of a lane, if there are several lanes."""

SMALLEST_STEP, LARGEST_STEP = 2.0**-100, 2.0**100


def bucket(symbol: int) -> tuple[int, int]:
    """Return the least magnitude of a symbol, and its number of raw bits."""
    if symbol < SINGLE:
        return symbol, 0
    raw = symbol // 8 - 1
    return (symbol % 8 + 8) << raw, raw


def lanes_of(count: int) -> int:
    """Return the number of lanes for a number of elements: a power of two."""
    lanes = 1
    while lanes < MAX_LANES and 2 * lanes * PER_LANE <= count:
        lanes *= 2
    return lanes
