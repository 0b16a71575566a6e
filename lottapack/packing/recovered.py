"""What pack() writes: a recipe, tensors, and where they come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from lottapack.folders.states import LeftOut
from lottapack.format.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Layer:
    """What became of one weight. ``role``: seeded, adapted or stored; ``error``: relative, in Frobenius norms.

    ``rank`` and ``beta`` are None where there is no adapter; ``size``: the bytes of a stored weight, in a PackResult
    those in the file. What a compression loses is not in ``error``, but in the result's ``kept``.
    """

    name: str
    role: str
    rank: int | None = None
    beta: float | None = None
    error: float | None = None
    size: int = 0


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Recovered:
    """A checkpoint whose recipe is known: what the functions of `lottapack.recover` return, and `pack` writes.

    Attributes:
        recipe: the role of each parameter.
        tensors: what the pack stores, by name.
        layers: what became of each weight, where a search found it.
        source: the checkpoint: a module, a state_dict or a path.
        part: of a live model, the module that is packed.
        known: files that the checkpoint brings by itself.
        leaving: tensors that are left out.
        drawn: what torch drew, by name, where torch generates the weights.
        differing: bytes of the weights that are not what was drawn.
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

    def __repr__(self) -> str:
        roles = [type(entry).__name__.removesuffix("Recipe").lower() for entry in self.recipe.parameters.values()]
        counts = ", ".join(f"{roles.count(role)} {role}" for role in sorted({*roles}))
        return f"<Recovered {self.recipe.architecture.class_}: {counts}>"
