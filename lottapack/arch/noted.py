"""What lottapack notes on a module beside the state that torch keeps: one record, of a model or of a layer."""

import reprlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from lottapack.errors import ScaffoldError
from lottapack.format.descriptor import Architecture

if TYPE_CHECKING:
    from torch import nn

    from lottapack.arch.as_built import AsBuilt
    from lottapack.format.descriptor import FileRecord
    from lottapack.format.recipe import Recipe
    from lottapack.nn.any_module import Numbers
    from lottapack.nn.changes import Sample
    from lottapack.nn.generated import Generated
    from lottapack.nn.layers import AdaptedEmbedding
    from lottapack.nn.recomputing import Change
    from lottapack.rng import Source

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
        planned: whether the model or layer was built without memory, and has not been given values since.
        sources: of a layer, the source of each of its generated weights, by its last name.
        samples: of a layer, a sample of each weight that torch drew, by its last name.
        adapters: of a module of any class, the numbers of each adapter, by the name of its parameter.
        virtual: of any module, what generates a weight at each use, by the name of its parameter.
        recipe_read: of the recipe in the model's tensors, its storage and the count of writes when it was last read.
        compared: whether the processes that train the model were found to have one scaffold.
        changes: of a layer with several scaffolds, its changes, the latest last.
        embedding: of a head, the embedding that it is tied to. It is not a submodule, so that its parameters are in the
            state_dict once.
    """

    architecture: Architecture | None = None
    recipe: "Recipe | None" = None
    config: Any = None
    computed: Mapping[str, str] | None = None
    built: "AsBuilt | None" = None
    files: "dict[str, tuple[FileRecord, bytes]]" = field(default_factory=dict)
    base: bytes | None = None
    planned: bool = False
    compared: bool = False
    recipe_read: tuple[int, int] | None = None
    sources: "dict[str, Source]" = field(default_factory=dict)
    samples: "dict[str, Sample]" = field(default_factory=dict)
    adapters: "dict[str, Numbers]" = field(default_factory=dict)
    virtual: "dict[str, Generated]" = field(default_factory=dict)
    changes: "deque[Change] | None" = None
    embedding: "AdaptedEmbedding | None" = None


def require_module(model: object) -> None:
    """Raise ScaffoldError for what is not a module."""
    from torch import nn

    if not isinstance(model, nn.Module):
        raise ScaffoldError(
            f"a model is needed, a torch.nn.Module, and this is {reprlib.repr(model)}",
            hint="Build it first; a checkpoint is loaded into a model, a pack with lottapack.load().",
        )


def noted(module: "nn.Module") -> Noted:
    """Return the record of a module, to read. A module without one has an empty one."""
    found: Noted = module.__dict__.get(_KEY, _NOTHING)
    return found


def notes(module: "nn.Module") -> Noted:
    """Return the record of a module, to write."""
    found: Noted | None = module.__dict__.get(_KEY)
    if found is None:
        found = module.__dict__[_KEY] = Noted()
    return found


class _Nothing(Noted):
    """The record of all modules that have none. Nothing can be written into it."""

    def __init__(self) -> None:
        empty: Any = MappingProxyType({})
        self.__dict__.update(files=empty, sources=empty, samples=empty, adapters=empty, virtual=empty)

    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError(f"{name} cannot be noted here: use notes()")


_NOTHING: Final = _Nothing()


def recipe_on(module: "nn.Module") -> "Recipe":
    """Return the recipe of a module that has one."""
    recipe = noted(module).recipe
    assert recipe is not None
    return recipe
