"""The type of callbacks that report the progress of long work."""

import reprlib
from collections.abc import Callable
from typing import Any

from lottapack.errors import UnsupportedError

Progress = Callable[[int, int], None]
"""A function that is called with the work done so far and the total. Each function that takes one names the unit."""


def require_functions(needed: bool = False, /, **functions: object) -> None:
    """Raise UnsupportedError for an argument that is not a function, before any work begins.

    ``needed``: whether None is refused too.
    """
    for name, function in functions.items():
        if not callable(function) and (needed or function is not None):
            raise UnsupportedError(
                f"{name}={reprlib.repr(function)} cannot be called",
                hint=f"Pass a function as `{name}`{'' if needed else ', or leave it out'}.",
            )


class ProgressBar:
    """Show progress as a bar: in a notebook as a widget, in a terminal as text.

    Args:
        label: what stands before the bar.
        unit: of the work; ``"B"`` for bytes.

    Source:
        tqdm.auto, which knows where it runs.

    Examples:
        >>> outcome = lottapack.verify("model.lotta.safetensors", progress=lottapack.ProgressBar("verify"))
    """

    def __init__(self, label: str = "", *, unit: str = "") -> None:
        self._label, self._unit = label, unit
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Show how far it is. The bar ends when all is done; a later call begins another."""
        if self._bar is None:
            from tqdm.auto import tqdm

            bytes_ = self._unit == "B"
            self._bar = tqdm(
                desc=self._label or None,
                total=total,
                unit=self._unit or "it",
                unit_scale=bytes_,
                unit_divisor=1000,
            )
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.close()
            self._bar = None
