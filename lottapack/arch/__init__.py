"""Architectures as data: describe a module as JSON, and build an empty module from JSON (spec: architectures).

A family is a record of functions. Importing this package does not import a model library; using a model or a pack of a
family does.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from lottapack.arch.budget import Budget
from lottapack.arch.family import Family as Family
from lottapack.arch.noted import noted
from lottapack.arch.numbers import check_numbers, check_texts
from lottapack.arch.trust import allowing
from lottapack.arch.versions import require_sound
from lottapack.errors import ArchitectureError, FormatError, UnsupportedError
from lottapack.format import canonical
from lottapack.format.arguments import class_paths
from lottapack.format.descriptor import Architecture
from lottapack.format.rules import FAMILIES, architecture_problems

if TYPE_CHECKING:
    from torch import nn

_UNKNOWN = Budget()
_WRAPPING = "torch._dynamo.", "torch.nn.parallel.", "torch.optim.swa_utils", "torch.distributed.fsdp.fully_sharded"
"""Where the classes are that wrap a model to run or to average it."""


def families() -> tuple[Family, ...]:
    """Return all families. What a model remembers takes precedence over its class."""
    from lottapack.arch import python_classes, timm_models, torch_nn, transformers_models

    return (python_classes.FAMILY, timm_models.FAMILY, transformers_models.FAMILY, torch_nn.FAMILY)


def family_of(model: "nn.Module") -> Family:
    """Return the family that a module belongs to. Raises ArchitectureError."""
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    if noted(model).architecture is None and (inner := _wrapped(model)):
        raise ArchitectureError(
            f"{name} wraps the model", hint=f"Use the model inside, `model.{inner}`, and wrap the result."
        )
    for family in families():
        if family.owns(model):
            return family
    raise ArchitectureError(
        f"{name} does not belong to a known architecture family",
        hint="Packs do not contain code. Use a transformers model class or a torch.nn.Sequential of torch.nn modules, "
        'or build it by name: lottapack.build("python", "package.module:Class", ...) or lottapack.build("timm", ...).',
    )


def _wrapped(model: "nn.Module") -> str | None:
    """Return the name under which torch's compiler or a parallel module holds the model that it wraps, or None."""
    from lottapack.arch.skeleton import WRAPPERS

    wraps = type(model).__module__.startswith(_WRAPPING)
    return next((name for name in (*WRAPPERS, "module") if wraps and name in model._modules), None)


def describe(model: "nn.Module") -> Architecture:
    """Return the architecture of a module, checked by building it again. Raises ArchitectureError."""
    return described(model)[0]


def described(model: "nn.Module") -> "tuple[Architecture, nn.Module]":
    """Return what describe() returns, and the empty module that was built to check it."""
    from lottapack.arch.skeleton import budget_of, require_layouts, require_same_computed, shapes_of

    family = family_of(model)
    class_name, config = family.describe(model)
    architecture = checked(family.name, class_name, config)
    require_layouts(model)
    actual, rebuilt = shapes_of(model), _built_again(architecture, budget_of(model))
    shapes = shapes_of(rebuilt)
    different = sorted(name for name in actual.keys() | shapes.keys() if actual.get(name) != shapes.get(name))
    if different:
        raise ArchitectureError(
            f"rebuilding {class_name} from its configuration gives different tensors: {', '.join(different[:5])}",
            hint="The model was changed after it was built. Describe the change in its configuration or modules.",
        )
    if family.fills(class_name, config):
        again = partial(_built_again, architecture, budget_of(model))
        require_same_computed(model, rebuilt, class_name, again)
    return architecture, rebuilt


def checked(family: str, class_name: str, config: dict[str, Any]) -> Architecture:
    """Check and return an architecture that the format can hold. Raises ArchitectureError."""
    try:
        text = canonical.view(canonical.dumps(config))
    except (ValueError, FormatError) as fault:
        raise ArchitectureError(
            f"cannot write the configuration of this {class_name} as JSON: {fault}", hint="Use plain data."
        ) from fault
    problems = architecture_problems(family, class_name, text)
    if problems:
        raise ArchitectureError(
            f"cannot describe this {class_name}: {problems[0]}", hint="Change the model's configuration."
        )
    return Architecture(family=family, class_=class_name, config=config)


def _built_again(architecture: Architecture, budget: Budget) -> "nn.Module":
    """Build a model of this process again. Its code already runs, so this does not trust anything new."""
    with allowing(packages(architecture)):
        return build(architecture, budget)


def packages(architecture: Architecture) -> tuple[str, ...]:
    """Return the packages that a loader must allow by name, without importing them."""
    paths = (
        (architecture.class_, *class_paths(list(architecture.config.values())))
        if architecture.family == "python"
        else ()
    )
    return tuple(sorted({path.partition(":")[0].partition(".")[0] for path in paths}))


def build(architecture: Architecture, budget: Budget = _UNKNOWN) -> "nn.Module":
    """Build an empty module: parameters and persistent buffers on the meta device, other buffers computed.

    Does not draw weights or allocate memory for them. ``budget``: the limits, from the size of its parameter table.

    Raises UnsupportedError for a missing library, NotAllowedError for one that the caller did not allow, LimitError if
    building costs more than the budget, and ArchitectureError.
    """
    from lottapack.arch.skeleton import build_skeleton

    family = _prepared(architecture, budget)
    fills = family.fills(architecture.class_, architecture.config)
    model = build_skeleton(
        lambda: family.construct(architecture.class_, architecture.config),
        architecture.class_,
        budget,
        memory=fills,
        at_once=family.computes and not fills,
    )
    return _noted(family, model, architecture)


def draw(architecture: Architecture, seed: int, budget: Budget = _UNKNOWN) -> "nn.Module":
    """Build the module with its library on the CPU under ``torch.manual_seed(seed)`` (spec: torch_cpu, section 2).

    Does not use the process's random state. Takes the model's memory. Raises the errors of build().
    """
    from lottapack.arch.drawn import build_drawn

    family = _prepared(architecture, budget)
    model = build_drawn(
        lambda: family.draw(architecture.class_, architecture.config), architecture.class_, seed, budget
    )
    return _noted(family, model, architecture)


def _prepared(architecture: Architecture, budget: Budget) -> Family:
    """Return an architecture's family, after checking its numbers and importing what it needs."""
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
    """Return the packages that build an architecture, except torch."""
    return family_called(architecture.family).tools(architecture.class_, architecture.config)


def family_called(name: str) -> Family:
    """Return the family of that name. Raises UnsupportedError."""
    family = next((family for family in families() if family.name == name), None)
    if family is None:
        raise UnsupportedError(
            f"unknown architecture family {name!r}",
            hint=f"This lottapack knows {', '.join(FAMILIES)}. Upgrade lottapack if the pack is newer.",
        )
    return family
