"""Adapters of the PEFT library: read their folders into packs, and write packs as their folders.

Both work on files; PEFT itself need not be installed. draw_projections_() changes a model of PEFT's before training.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lottapack.peft.vera import draw_projections_ as draw_projections_

__all__ = ["draw_projections_"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lottapack.peft.vera import draw_projections_

    return draw_projections_
