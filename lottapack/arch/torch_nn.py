"""The family ``torch.nn``: trees of listed modules (spec: architectures, section 1)."""

from typing import Any

from torch import nn

from lottapack.arch.family import Family
from lottapack.arch.skeleton import unwrapped
from lottapack.errors import ArchitectureError
from lottapack.format.descriptor import Architecture
from lottapack.format.torch_nn_classes import ARGUMENTS


def describe(model: nn.Module) -> tuple[str, dict[str, Any]]:
    """Return the class name and config of a module tree. Raises ArchitectureError naming a module not in the list."""
    return _describe(model, "the model")


def current(model: nn.Module, architecture: Architecture) -> dict[str, Any]:
    """Return a module tree's present config; its layers may have changed class. Raises ArchitectureError."""
    return _current(model, architecture.class_, architecture.config, "the model")


def _current(module: nn.Module, name: str, config: dict[str, Any], where: str) -> dict[str, Any]:
    if name != "Sequential":
        return {
            argument: _argument(module, argument, where) if hasattr(module, argument) else value
            for argument, value in config.items()
        }
    known = {node["name"]: node for node in config["children"]}
    children = []
    for child_name, child in module._modules.items():
        if child is None:
            raise _is_none(where, child_name)
        child_path = child_name if where == "the model" else f"{where}.{child_name}"
        node, inner = known.get(child_name), unwrapped(child)
        if node is None or (_is_listed(inner) and type(inner).__name__ != node["class"]):
            class_name, found = _describe(inner, child_path)
            node = {"name": child_name, "class": class_name, "config": found}
        else:
            node = {**node, "config": _current(inner, node["class"], node["config"], child_path)}
        children.append(node)
    return {"children": children}


def _describe(module: nn.Module, where: str) -> tuple[str, dict[str, Any]]:
    name = type(module).__name__
    if type(module) is nn.Sequential:
        children = []
        for child_name, child in module._modules.items():
            if child is None:
                raise _is_none(where, child_name)
            class_name, config = _describe(child, child_name if where == "the model" else f"{where}.{child_name}")
            children.append({"name": child_name, "class": class_name, "config": config})
        return name, {"children": children}
    if not _is_listed(module):
        raise ArchitectureError(
            f"{where}: cannot describe {type(module).__module__}.{type(module).__qualname__} as data",
            hint="Use a Sequential of the torch.nn modules in spec/v1/torch_nn.json, or a transformers model.",
        )
    if getattr(module, "max_norm", None) is not None:
        raise ArchitectureError(
            f"{where}: an embedding with max_norm changes its own weights", hint="Build it without max_norm."
        )
    return name, {argument: _argument(module, argument, where) for argument in ARGUMENTS[name]}


def _is_none(where: str, name: str) -> ArchitectureError:
    return ArchitectureError(
        f"{where}: {name} is None, which cannot be described as data", hint="Put a module there, such as nn.Identity()."
    )


def _is_listed(module: nn.Module) -> bool:
    """Return whether a module's class is exactly one of the list."""
    name = type(module).__name__
    return name in ARGUMENTS and type(module) is getattr(nn, name)


def _argument(module: nn.Module, name: str, where: str) -> Any:
    value = getattr(module, name)
    if name == "bias":
        return value is not None
    if isinstance(value, tuple | list):
        value = [int(item) if type(item) is int else item for item in value]
        if any(type(item) is not int for item in value):
            raise ArchitectureError(
                f"{where}: the argument {name}={value} is not a tuple of integers", hint="Build it with integers."
            )
    elif not (value is None or isinstance(value, bool | int | float | str)):
        raise ArchitectureError(
            f"{where}: cannot describe the argument {name}={value!r} as data", hint="Build it with plain data."
        )
    return value


def construct(class_name: str, config: dict[str, Any]) -> nn.Module:
    """Build a tree whose names and arguments were checked against the list."""
    if class_name == "Sequential":
        root = nn.Sequential()
        for node in config["children"]:
            root.add_module(node["name"], construct(node["class"], node["config"]))
        return root
    arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
    module: nn.Module = getattr(nn, class_name)(**arguments)
    return module


def heads(model: nn.Module) -> set[str]:
    """Return the name of the last linear layer."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return set(linear[-1:])


FAMILY = Family(
    name="torch.nn",
    owns=lambda model: type(model).__module__.startswith("torch.nn."),
    describe=describe,
    construct=construct,
    draw=construct,
    heads=heads,
    current=current,
)
