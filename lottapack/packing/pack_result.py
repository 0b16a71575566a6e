"""What pack() gives back, and what it warns of."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lottapack.errors import BackboneChangedWarning
from lottapack.limits import size_text
from lottapack.packing.costs import Cost
from lottapack.packing.recovered import Layer
from lottapack.packing.storing import Kept

PackCheck = Callable[[Path], object]
"""What pack() calls with the new file before that takes its place."""


@dataclass(frozen=True, slots=True)
class PackResult:
    """What pack() wrote.

    ``stored_instead``: generated parameters that had to be stored, with the bytes that they take. ``kept``: the tensors
    that are in another form than they were, and their errors. ``left_out``: tensors, or whole models, of the checkpoint
    that are not in the pack because ``ignore`` or ``key`` said so. ``files``: those that the pack carries beside the
    model, with their bytes; ``files_left``: those that lie beside the checkpoint and are not in the pack. ``checked``:
    what ``check`` gave back. ``costs``: what each form costs, where an error was asked for. ``layers``: what became of
    each weight of a recovered model.
    """

    path: Path
    size: int
    sha256: str
    stored_instead: dict[str, int]
    kept: tuple[Kept, ...] = ()
    left_out: tuple[str, ...] = ()
    files: dict[str, int] = field(default_factory=dict)
    files_left: tuple[str, ...] = ()
    checked: object = None
    costs: tuple[Cost, ...] = ()
    layers: tuple[Layer, ...] = ()


def warn_of_changes(stored_instead: Mapping[str, int], seed: int, by_torch: bool) -> None:
    """Warn the caller of pack() of generated weights that had to be stored; by name, with their bytes."""
    if not stored_instead:
        return
    names = ", ".join(list(stored_instead)[:5])
    more = f" and {len(stored_instead) - 5} more" if len(stored_instead) > 5 else ""
    what = "weights are not what torch draws from" if by_torch else "frozen weights are not what"
    warnings.warn(
        f"{len(stored_instead)} {what} seed {seed}{'' if by_torch else ' generates'}; they "
        f"were stored, {size_text(sum(stored_instead.values()))} in all: {names}{more}",
        BackboneChangedWarning,
        stacklevel=4,
    )
