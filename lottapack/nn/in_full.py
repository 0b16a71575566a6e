"""Log which parameters of a model are stored in full and why, if they are most of it."""

import logging
from collections.abc import Iterable, Mapping

from lottapack.format.recipe import ParameterRecipe, StoredRecipe
from lottapack.nn.select import Entry

_log = logging.getLogger("lottapack")
_MOST = 0.5
_SHOWN = 3
_GROUPS = {"embedding": "embeddings", "head": "heads", "norm": "norms", "bias": "biases", "buffer": "buffers"}
"""The names of the groups in ``train``, and buffers, which a pack always stores."""


def tell_of_what_is_in_full(entries: Iterable[Entry], plan: Mapping[str, ParameterRecipe], rank: object) -> None:
    """Log a warning with shares and causes if more than half of a model is stored in full.

    Args:
        entries: those of the model.
        plan: the role of each by name.
        rank: the argument of scaffold().
    """
    sizes: dict[str, int] = {}
    total = 0
    others: list[Entry] = []
    for entry in entries:
        if entry.tied:
            continue
        size = entry.tensor.numel() * entry.tensor.element_size()
        total += size
        if isinstance(plan[entry.name], StoredRecipe):
            group = _GROUPS.get(entry.group, "other weights")
            sizes[group] = sizes.get(group, 0) + size
            if entry.group == "other":
                others.append(entry)
    stored = sum(sizes.values())
    if not total or stored <= _MOST * total:
        return
    largest = sorted(sizes.items(), key=lambda item: -item[1])
    shares = ", ".join(f"{group} {size / total:.0%}" for group, size in largest if size / total >= 0.005)
    others.sort(key=lambda entry: -entry.tensor.numel())
    causes = "".join(f"; {entry.name} {_cause(entry, rank)}" for entry in others[:_SHOWN])
    _log.warning("scaffold() keeps %.0f%% of the model in full: %s%s", 100 * stored / total, shares, causes)


def _cause(entry: Entry, rank: object) -> str:
    """Return the reason why a weight does not have an adapter, as text after its name."""
    if entry.kind is None:
        return f"({type(entry.module).__name__}) cannot have an adapter"
    if not entry.kind.by_default:
        return f"({type(entry.module).__name__}) has an adapter only if targets names it"
    return f"({type(entry.module).__name__}) is named in train, shares its weight, or is narrower than rank={rank}"
