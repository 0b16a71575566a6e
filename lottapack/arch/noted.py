"""What lottapack notes on a module beside the state that torch keeps: one record, of a model or of a layer."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lottapack.format.descriptor import Architecture
from lottapack.format.recipe import Recipe
from lottapack.rng import Source

if TYPE_CHECKING:
    from torch import nn

    from lottapack.arch.as_built import AsBuilt
    from lottapack.format.descriptor import FileRecord
    from lottapack.nn.any_module import Numbers
    from lottapack.nn.layers import AdaptedEmbedding
    from lottapack.nn.recomputing import Change

_KEY = "_lottapack"


@dataclass
class Noted:
    """What is known of a module; a field is None or empty where it does not apply.

    Attributes:
        architecture: what the model was built from, if its family does not record that itself.
        recipe: of a scaffolded model.
        config: the configuration that the model had when it got its recipe.
        computed: the dtypes of the tensors that the model's constructor computes, by name.
        built: what the model's constructor makes.
        files: the files that the model's pack carries, still coded, by name.
        base: the pack of the model's weights.
        planned: whether the model was scaffolded without memory, and has not been given values since.
        sources: of a layer, the source of each of its generated weights, by its last name.
        adapters: of a module of any class, the numbers of each adapter, by the name of its parameter.
        changes: of a layer with several scaffolds, its changes, the latest last.
        embedding: of a head, the embedding that it is tied to. It is not a submodule, so that its parameters are in the
            state_dict once.
    """

    architecture: Architecture | None = None
    recipe: Recipe | None = None
    config: Any = None
    computed: Mapping[str, str] | None = None
    built: "AsBuilt | None" = None
    files: "dict[str, tuple[FileRecord, bytes]]" = field(default_factory=dict)
    base: bytes | None = None
    planned: bool = False
    sources: dict[str, Source] = field(default_factory=dict)
    adapters: "dict[str, Numbers]" = field(default_factory=dict)
    changes: "deque[Change] | None" = None
    embedding: "AdaptedEmbedding | None" = None


def noted(module: "nn.Module") -> Noted:
    """Return the record of a module, to read. A module without one has an empty one, which is not kept."""
    found: Noted | None = module.__dict__.get(_KEY)
    return Noted() if found is None else found


def notes(module: "nn.Module") -> Noted:
    """Return the record of a module, to write."""
    found: Noted = module.__dict__.setdefault(_KEY, noted(module))
    return found


def recipe_on(module: "nn.Module") -> Recipe:
    """Return the recipe of a module that has one."""
    recipe = noted(module).recipe
    assert recipe is not None
    return recipe
