"""How many of many like cases run: `make test` runs a fixed choice of them, `make test-all` every one.

Only what the code treats independently is chosen from: each value of each parameter stays in `make test`.
"""

import os
from collections.abc import Sequence
from itertools import product
from typing import Any, TypeVar

EVERY = os.environ.get("LOTTAPACK_TEST_ALL") == "1"
"""Whether every case runs; `make test-all` sets the variable."""

T = TypeVar("T")


def extent(few: T, every: T) -> T:
    """Return the number of rounds, or the list of cases, that runs."""
    return every if EVERY else few


def crossed(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return all combinations of values; or as few as hold each value of each axis.

    A later axis, when shorter, moves on by one each time that it comes round: (a, 1), (b, 2), (c, 2), (d, 1).
    """
    if EVERY:
        return list(product(*axes))
    rows = range(max(map(len, axes)))
    return [tuple(axis[(row + row // len(axis)) % len(axis)] for axis in axes) for row in rows]
