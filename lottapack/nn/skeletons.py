"""A pack's model without memory, its entries and its recipe."""

from torch import nn

from lottapack.format import recipe
from lottapack.format.packfile import PackFile
from lottapack.nn.select import Entry, entries_of
from lottapack.weights.rebuild import skeleton


def skeleton_of(pack: PackFile, max_bytes: int | None = None) -> tuple[nn.Module, dict[str, Entry], recipe.Recipe]:
    """Build a pack's plain model without memory, and say what is in it. ``max_bytes``: see load()."""
    model = skeleton(pack.descriptor, max_bytes)
    entries = {entry.name: entry for entry in entries_of(model)}
    groups = {name: entry.group for name, entry in entries.items()}
    return model, entries, recipe.of_descriptor(pack.whole, pack.tables, groups)
