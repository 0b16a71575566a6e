"""Whether two layers of a model that share a weight with an adapter are one layer under two names."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from torch import nn

from lottapack.arch.noted import noted
from lottapack.errors import ArchitectureError
from lottapack.format.recipe import Recipe


class SameLayer:
    """Compares layers of a model by its recipe and by what the model's constructor made."""

    def __init__(self, model: nn.Module, plan: Recipe) -> None:
        self.model, self.plan = model, plan

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self.plan.parameters)

    @cached_property
    def _places(self) -> list[str]:
        return sorted(self._told)

    @property
    def _told(self) -> Mapping[str, str]:
        built = noted(self.model).built
        return {} if built is None else built.told

    def require(self, name: str, owner: str) -> None:
        """Raise ArchitectureError unless the layers of a tied weight and of its owner are the same in everything.

        Only then may one stand for both: a layer with the weight but, say, a bias of its own would lose it.
        """
        (tied, _, leaf), (held, _, owner_leaf) = name.rpartition("."), owner.rpartition(".")
        if leaf != owner_leaf or not self._alike(tied, held):
            raise refusal(name, owner)

    def _alike(self, tied: str, owner: str) -> bool:
        ours, theirs = f"{tied}." if tied else "", f"{owner}." if owner else ""
        if self._told.get(tied) != self._told.get(owner):
            return False
        tensors = [[(n, self.plan.resolve(p + n)) for n in _below(self._names, p)] for p in (ours, theirs)]
        built = [[(n, self._told[p + n]) for n in _below(self._places, p)] for p in (ours, theirs)]
        return tensors[0] == tensors[1] and built[0] == built[1]


def refusal(name: str, owner: str) -> ArchitectureError:
    """Return the error for a weight that is tied to one with an adapter, in a layer that would not see it."""
    return ArchitectureError(
        f"{name} is tied to {owner}, which has an adapter, but it is the weight of another layer, which would not "
        "see the adapter",
        hint="Load it with merge=True, or export it.",
    )


def _below(names: Sequence[str], prefix: str) -> Iterator[str]:
    """Yield the rest of each of the sorted names that begin with a prefix."""
    for at in range(bisect_left(names, prefix), len(names)):
        if not names[at].startswith(prefix):
            return
        yield names[at].removeprefix(prefix)
