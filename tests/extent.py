"""How many of many like cases run: `make test` runs a fixed choice of them, `make test-all` every one.

`crossed` keeps each value of each parameter. What `extent` leaves out, what `ordinary` leaves out, and tests with the
marker `every` take long beside what they would find: others of their kind are in `make test`.
"""

import os
from collections.abc import Container, Iterable, Sequence
from itertools import product
from typing import Any, TypeVar

EVERY = os.environ.get("LOTTAPACK_TEST_ALL") == "1"
"""Whether every case runs; `make test-all` sets the variable."""

T = TypeVar("T")


def extent(few: T, every: T) -> T:
    """Return the number of rounds, or the list of cases, that runs."""
    return every if EVERY else few


def ordinary(cases: Iterable[str], at_limits: Container[str]) -> list[str]:
    """Leave out the cases at the limits of the format, which take seconds each and which other tests have."""
    return [case for case in cases if EVERY or case not in at_limits]


def crossed(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return all combinations of values; or as few as hold each value of each axis.

    A later axis, when shorter, moves on by one each time that it comes round: (a, 1), (b, 2), (c, 2), (d, 1).
    """
    if EVERY:
        return list(product(*axes))
    rows = range(max(map(len, axes)))
    return [tuple(axis[(row + row // len(axis)) % len(axis)] for axis in axes) for row in rows]
