"""The input of pack(): a recipe, tensors and their source."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from lottapack.display import Displayed, Facts
from lottapack.folders.states import LeftOut
from lottapack.format.recipe import Recipe

LAYER_COLUMNS = ("layer", "role", "rank", "beta", "error")


@dataclass(frozen=True, slots=True)
class Layer:
    """The role of one weight: seeded, adapted or stored. ``error``: relative, in Frobenius norms.

    ``rank`` and ``beta`` are None without an adapter. ``size``: the bytes of a stored weight; in a PackResult those in
    the file. ``error`` does not include the loss of a compression, which the result's ``kept`` lists.
    """

    name: str
    role: str
    rank: int | None = None
    beta: float | None = None
    error: float | None = None
    size: int = 0

    @property
    def row(self) -> tuple[object, ...]:
        """The layer's values under LAYER_COLUMNS."""
        beta, error = ("" if value is None else f"{value:.4g}" for value in (self.beta, self.error))
        return self.name, self.role, self.rank, beta, error


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Recovered(Displayed):
    """A checkpoint with a known recipe: the functions of `lottapack.recover` return it, and `pack` writes it.

    Attributes:
        recipe: the role of each parameter.
        tensors: what the pack stores, by name.
        layers: the role of each weight, if a search found it.
        source: the checkpoint: a module, a state_dict or a path.
        part: the module that is packed, for a live model.
        known: files that come with the checkpoint.
        leaving: tensors that are left out.
        drawn: the weights that torch drew, by name, if torch generates them.
        differing: the bytes of random weights that differ from those that were drawn.
    """

    recipe: Recipe
    tensors: dict[str, Tensor]
    source: object = None
    part: nn.Module | None = None
    known: Mapping[str, bytes] = field(default_factory=dict)
    leaving: LeftOut = field(default_factory=LeftOut)
    drawn: Mapping[str, Tensor] = field(default_factory=dict)
    differing: Mapping[str, int] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()

    def _facts(self) -> Facts:
        roles = [type(entry).__name__.removesuffix("Recipe").lower() for entry in self.recipe.parameters.values()]
        counts = ", ".join(f"{roles.count(role)} {role}" for role in sorted({*roles}))
        rows = [layer.row for layer in self.layers]
        return Facts(self.recipe.architecture.class_, counts, {}, LAYER_COLUMNS, rows)
