"""Architectures as data: a module to JSON, JSON to an empty module (spec: architectures).

A family is a record of functions. Nothing here imports a model library before a model or
a pack of its family asks for it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from lottapack.arch.budget import Budget
from lottapack.arch.numbers import check_numbers, check_texts
from lottapack.arch.trust import allowing
from lottapack.arch.versions import require_sound
from lottapack.errors import ArchitectureError, FormatError, UnsupportedError
from lottapack.format import canonical
from lottapack.format.arguments import class_paths
from lottapack.format.descriptor import Architecture
from lottapack.format.rules import FAMILIES, architecture_problems

if TYPE_CHECKING:
    from torch import Tensor, nn

_UNKNOWN = Budget()


@dataclass(frozen=True, slots=True)
class Family:
    """How one family of architectures is described and built.

    ``owns(model)``: whether a module belongs to it. ``describe(model)``: class name and config.
    ``prepare(class_name, config)``: import what is needed (while modules are being built without weights, an import
    would leave constants without values). ``construct(class_name, config)``: call the constructor (the caller
    arranges that nothing is allocated). ``draw(class_name, config)``: the same with real memory and the library's
    own random initialisation. ``heads(model)``: names of the modules that are output heads. ``renamed(model,
    names)``: what entries of a checkpoint are called in the model, where the library saves them under other names;
    None where none does that. ``converted(model, tensors, own)``: the same with the tensors, which it may save split or
    joined. ``tools(class_name, config)``: packages whose versions go into the provenance.
    ``current(model, architecture)``: the configuration that a model has now, adapters or not; ``saved(said,
    architecture)``: the same from what the library saves as JSON beside a checkpoint. None where a model has none.
    ``remembers``: whether its models cannot say how they were built, so that what builds them notes it on them.
    ``fills(class_name, config)``: whether its library fills uninitialised memory after it made a tensor, so that this
    needs memory to be computed; what comes out is then compared when a model is described.
    ``numbers``: what the integers of its configurations are: ``"sizes"`` from which the library makes loops and lists;
    ``"calls"``, arguments of which only the caller's own classes know what they are; or None, where they are harmless.
    """

    name: str
    owns: Callable[["nn.Module"], bool]
    describe: Callable[["nn.Module"], tuple[str, dict[str, Any]]]
    construct: Callable[[str, dict[str, Any]], "nn.Module"]
    draw: Callable[[str, dict[str, Any]], "nn.Module"]
    heads: Callable[["nn.Module"], set[str]]
    renamed: Callable[["nn.Module", Iterable[str]], dict[str, str]] | None = None
    converted: Callable[["nn.Module", Mapping[str, "Tensor"], Collection[str]], dict[str, "Tensor"]] | None = None
    tools: Callable[[str, dict[str, Any]], tuple[str, ...]] = lambda _, __: ()
    current: Callable[["nn.Module", Architecture], dict[str, Any]] | None = None
    saved: Callable[[Any, Architecture], dict[str, Any]] | None = None
    remembers: bool = False
    fills: Callable[[str, dict[str, Any]], bool] = lambda _, __: False
    numbers: Literal["sizes", "calls"] | None = None
    prepare: Callable[[str, dict[str, Any]], object] = lambda _, __: None

    def names_in_model(self, model: "nn.Module", names: Iterable[str]) -> dict[str, str]:
        """What entries of a checkpoint are called in the model; those that are missing keep their names."""
        return self.renamed(model, names) if self.renamed else {}

    def as_in_model(
        self, model: "nn.Module", tensors: Mapping[str, "Tensor"], own: Collection[str]
    ) -> dict[str, "Tensor"]:
        """The tensors of a checkpoint by the model's own names (``own``: all that it may have), in its own shapes."""
        return self.converted(model, tensors, own) if self.converted else dict(tensors)


def families() -> tuple[Family, ...]:
    """All families. What is noted on a model goes before what its class says."""
    from lottapack.arch import python_classes, timm_models, torch_nn, transformers_models

    return (python_classes.FAMILY, timm_models.FAMILY, transformers_models.FAMILY, torch_nn.FAMILY)


def family_of(model: "nn.Module") -> Family:
    """The family that a module belongs to. Raises ArchitectureError."""
    for family in families():
        if family.owns(model):
            return family
    raise ArchitectureError(
        f"{type(model).__module__}.{type(model).__qualname__} belongs to no architecture family",
        hint="A pack holds no code: use a model class of transformers or a torch.nn.Sequential of torch.nn modules, or "
        'build it by name: lottapack.build("python", "package.module:Class", ...) or lottapack.build("timm", ...).',
    )


def describe(model: "nn.Module") -> Architecture:
    """The architecture of a module as data, checked by building it again. Raises ArchitectureError."""
    return described(model)[0]


def described(model: "nn.Module") -> "tuple[Architecture, nn.Module]":
    """As describe(), and the empty module that was built again."""
    from lottapack.arch.skeleton import budget_of, require_same_computed, shapes_of

    family = family_of(model)
    class_name, config = family.describe(model)
    architecture = checked(family.name, class_name, config)
    found, rebuilt = shapes_of(model), _built_again(architecture, budget_of(model))
    shapes = shapes_of(rebuilt)
    different = sorted(name for name in found.keys() | shapes.keys() if found.get(name) != shapes.get(name))
    if different:
        raise ArchitectureError(
            f"rebuilding {class_name} from its configuration gives other tensors: {', '.join(different[:5])}",
            hint="The model was changed after it was built; describe the change in its configuration or modules.",
        )
    if family.fills(class_name, config):
        again = partial(_built_again, architecture, budget_of(model))
        require_same_computed(model, rebuilt, class_name, again)
    return architecture, rebuilt


def checked(family: str, class_name: str, config: dict[str, Any]) -> Architecture:
    """An architecture that the format can hold. Raises ArchitectureError."""
    try:
        text = canonical.view(canonical.dumps(config))
    except (ValueError, FormatError) as fault:
        raise ArchitectureError(f"the configuration of this {class_name} is not canonical JSON: {fault}") from fault
    problems = architecture_problems(family, class_name, text)
    if problems:
        raise ArchitectureError(f"this {class_name} cannot be described: {problems[0]}")
    return Architecture(family=family, class_=class_name, config=config)


def _built_again(architecture: Architecture, budget: Budget) -> "nn.Module":
    """What a model in this process was built from: the code is running already, so nothing more is trusted."""
    with allowing(packages(architecture)):
        return build(architecture, budget)


def packages(architecture: Architecture) -> tuple[str, ...]:
    """The packages that a loader must allow by name. Imports nothing."""
    paths = (
        (architecture.class_, *class_paths(list(architecture.config.values())))
        if architecture.family == "python"
        else ()
    )
    return tuple(sorted({path.partition(":")[0].partition(".")[0] for path in paths}))


def build(architecture: Architecture, budget: Budget = _UNKNOWN) -> "nn.Module":
    """An empty module: parameters and persistent buffers on the meta device, other buffers computed.

    Draws no weight and takes no memory for any. ``budget``: what it may cost, by what its parameter table declares.
    Raises UnsupportedError for a missing library, NotAllowedError for one that the caller did not allow, LimitError
    for what costs more than the budget, and ArchitectureError.
    """
    from lottapack.arch.skeleton import build_skeleton

    family = _prepared(architecture, budget)
    model = build_skeleton(
        lambda: family.construct(architecture.class_, architecture.config),
        architecture.class_,
        budget,
        memory=family.fills(architecture.class_, architecture.config),
    )
    return _noted(family, model, architecture)


def draw(architecture: Architecture, seed: int, budget: Budget = _UNKNOWN) -> "nn.Module":
    """The module as its library builds it on the CPU under ``torch.manual_seed(seed)`` (spec: torch_cpu, section 2).

    The random state of the process is not used. Takes the model's memory. Raises as build() does.
    """
    from lottapack.arch.drawn import build_drawn

    family = _prepared(architecture, budget)
    model = build_drawn(
        lambda: family.draw(architecture.class_, architecture.config), architecture.class_, seed, budget
    )
    return _noted(family, model, architecture)


def _prepared(architecture: Architecture, budget: Budget) -> Family:
    """The family of an architecture whose numbers are in proportion, with what it needs imported."""
    from lottapack.arch.skeleton import named

    require_sound("torch")
    family = family_called(architecture.family)
    if family.numbers is not None:
        check_numbers(architecture.class_, architecture.config, budget, calls=family.numbers == "calls")
    if family.numbers == "sizes":
        check_texts(architecture.class_, architecture.config)
    with named(architecture.class_):
        family.prepare(architecture.class_, architecture.config)
    return family


def _noted(family: Family, model: "nn.Module", architecture: Architecture) -> "nn.Module":
    if family.remembers:
        from lottapack.arch.remembered import remember

        remember(model, architecture)
    return model


def tools(architecture: Architecture) -> tuple[str, ...]:
    """The packages that build an architecture, other than torch."""
    return family_called(architecture.family).tools(architecture.class_, architecture.config)


def family_called(name: str) -> Family:
    """The family of that name. Raises UnsupportedError."""
    family = next((family for family in families() if family.name == name), None)
    if family is None:
        raise UnsupportedError(
            f"the architecture family {name!r} is unknown",
            hint=f"This lottapack knows {', '.join(FAMILIES)}; a newer one may know more.",
        )
    return family
