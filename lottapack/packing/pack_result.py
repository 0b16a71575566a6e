"""The result of pack(), and its warnings."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lottapack.display import Displayed, Facts
from lottapack.errors import BackboneChangedWarning
from lottapack.limits import size_text
from lottapack.packing.costs import Cost
from lottapack.packing.recovered import LAYER_COLUMNS, Layer
from lottapack.packing.storing import Kept

PackCheck = Callable[[Path], object]
"""A function that pack() calls with the new file before it replaces the old one."""


@dataclass(frozen=True, slots=True, repr=False)
class PackResult(Displayed):
    """The result of pack().

    ``stored_instead``: generated parameters that had to be stored, with their bytes. ``kept``: tensors that are stored
    in another form, with their errors. ``left_out``: tensors, or whole models, of the checkpoint that ``ignore`` or
    ``key`` left out of the pack. ``files``: the files that the pack holds beside the model, with their bytes.
    ``files_left``: files beside the checkpoint that are not in the pack. ``checked``: what ``check`` returned.
    ``costs``: what each form costs, if an error was given. ``layers``: the role of each weight of a recovered model.
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

    def _facts(self) -> Facts:
        more: dict[str, object] = {"sha256": self.sha256}
        if self.stored_instead:
            more["generated weights that had to be stored"] = ", ".join(self.stored_instead)
        if self.left_out:
            more["left out"] = ", ".join(self.left_out)
        if self.files:
            more["files"] = ", ".join(self.files)
        if self.checked is not None:
            more["checked"] = self.checked
        columns: tuple[str, ...] = ("tensor", "group", "as", "before", "now", "rms error")
        rows: list[tuple[object, ...]] = [
            (kept.name, kept.group, kept.form, size_text(kept.size_before), size_text(kept.size), f"{kept.rms:.2g}")
            for kept in self.kept
        ]
        if self.layers:
            columns, rows = LAYER_COLUMNS, [layer.row for layer in self.layers]
        return Facts(self.path, size_text(self.size), more, columns, rows)


def warn_of_changes(stored_instead: Mapping[str, int], seed: int, by_torch: bool, rounded: Sequence[str]) -> None:
    """Warn the caller of pack() of generated weights that had to be stored.

    Args: stored_instead, their bytes by name; rounded, those that only the rounding of averages changed.
    """
    if not stored_instead:
        return
    names = ", ".join(list(stored_instead)[:5])
    more = f" and {len(stored_instead) - 5} more" if len(stored_instead) > 5 else ""
    what = "weights differ from what torch draws from" if by_torch else "frozen weights differ from what"
    averaged = (
        f". {len(rounded)} of them only differ by rounding, as after an average of models over buffers. Average "
        "parameters only (use_buffers=False), or call lottapack.nn.regenerate_(model) before pack()"
    )
    warnings.warn(
        f"{len(stored_instead)} {what} seed {seed}{'' if by_torch else ' generates'}, so the pack stores them "
        f"({size_text(sum(stored_instead.values()))} in all): {names}{more}{averaged if rounded else ''}",
        BackboneChangedWarning,
        stacklevel=4,
    )
