"""The type of callbacks that report the progress of long work."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""A function that is called with the work done so far and the total. Each function that takes one names the unit."""
