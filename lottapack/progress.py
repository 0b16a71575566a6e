"""How the library tells of long work."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called now and then with the work done and the work in all; each function says in what unit."""
