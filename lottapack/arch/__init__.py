"""Architectures as data: a module to JSON, JSON to an empty module (spec: architectures).

A family is a record of functions. Nothing here imports a model library before a model or
a pack of its family asks for it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottapack.arch.rules import FAMILIES, architecture_problems
from lottapack.errors import ArchitectureError, FormatError, UnsupportedError
from lottapack.format import canonical
from lottapack.format.descriptor import Architecture

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Family:
    """How one family of architectures is described and built.

    ``owns(model)``: whether a module belongs to it. ``describe(model)``: class name and config.
    ``construct(class_name, config)``: call the constructor (the caller arranges that nothing is allocated).
    ``draw(class_name, config)``: the same with real memory and the library's own random initialisation.
    ``heads(model)``: names of the modules that are output heads. ``renamed(model, names)``: what entries of a
    checkpoint are called in the model, where the library saves them under other names. ``tools``: libraries
    whose versions go into the provenance.
    """

    name: str
    owns: Callable[["nn.Module"], bool]
    describe: Callable[["nn.Module"], tuple[str, dict[str, Any]]]
    construct: Callable[[str, dict[str, Any]], "nn.Module"]
    draw: Callable[[str, dict[str, Any]], "nn.Module"]
    heads: Callable[["nn.Module"], set[str]]
    renamed: Callable[["nn.Module", Iterable[str]], dict[str, str]] = lambda _, __: {}
    tools: tuple[str, ...] = ()


def _families() -> tuple[Family, ...]:
    from lottapack.arch import torch_nn, transformers_models

    return (transformers_models.FAMILY, torch_nn.FAMILY)


def family_of(model: "nn.Module") -> Family:
    """The family that a module belongs to. Raises ArchitectureError."""
    for family in _families():
        if family.owns(model):
            return family
    raise ArchitectureError(
        f"{type(model).__module__}.{type(model).__qualname__} belongs to no architecture family",
        hint="A pack holds no code: use a model class of transformers, or a torch.nn.Sequential of torch.nn modules.",
    )


def describe(model: "nn.Module") -> Architecture:
    """The architecture of a module as data, checked by building it again. Raises ArchitectureError."""
    from lottapack.arch.skeleton import shapes_of

    family = family_of(model)
    class_name, config = family.describe(model)
    problems = architecture_problems(family.name, class_name, config)
    if problems:
        raise ArchitectureError(f"this {class_name} cannot be described: {problems[0]}")
    try:
        canonical.loads(canonical.dumps(config))
    except (ValueError, FormatError) as fault:
        raise ArchitectureError(f"the configuration of this {class_name} is not canonical JSON: {fault}") from fault
    architecture = Architecture(family=family.name, class_=class_name, config=config)
    found, rebuilt = shapes_of(model), shapes_of(build(architecture))
    different = sorted(name for name in found.keys() | rebuilt.keys() if found.get(name) != rebuilt.get(name))
    if different:
        raise ArchitectureError(
            f"rebuilding {class_name} from its configuration gives other tensors: {', '.join(different[:5])}",
            hint="The model was changed after it was built; describe the change in its configuration or modules.",
        )
    return architecture


def build(architecture: Architecture) -> "nn.Module":
    """An empty module: parameters and persistent buffers on the meta device, other buffers computed.

    Draws no weight and takes no memory for any. Raises UnsupportedError for a missing library and ArchitectureError.
    """
    from lottapack.arch.skeleton import build_skeleton

    construct = _family_called(architecture.family).construct
    return build_skeleton(lambda: construct(architecture.class_, architecture.config), architecture.class_)


def draw(architecture: Architecture, seed: int) -> "nn.Module":
    """The module as its library builds it on the CPU under ``torch.manual_seed(seed)`` (spec: torch_cpu, section 2).

    The caller's random state stays as it is. Takes the model's memory. Raises as build() does.
    """
    from lottapack.arch.drawn import build_drawn

    family = _family_called(architecture.family)
    return build_drawn(lambda: family.draw(architecture.class_, architecture.config), architecture.class_, seed)


def _family_called(name: str) -> Family:
    family = next((family for family in _families() if family.name == name), None)
    if family is None:
        raise UnsupportedError(
            f"the architecture family {name!r} is unknown",
            hint=f"This lottapack knows {', '.join(FAMILIES)}; a newer one may know more.",
        )
    return family
