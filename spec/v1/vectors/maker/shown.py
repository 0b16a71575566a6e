"""The list of valid packs: each module of them adds to it."""

from collections.abc import Callable

from .model import Model

CASES: dict[str, tuple[str, bool, Callable[[], Model]]] = {}


def shows(why: str, *, buildable: bool = True) -> Callable[[Callable[[], Model]], Callable[[], Model]]:
    """Register a model; ``buildable``: its architecture yields just these parameters."""

    def register(make: Callable[[], Model]) -> Callable[[], Model]:
        CASES[make.__name__] = why, buildable, make
        return make

    return register
