"""The family ``python``: a class by its import path, which the caller must allow (spec: architectures, section 5)."""

import logging
import sys
from importlib import import_module
from types import FunctionType
from typing import Any

from torch import nn

from lottapack.arch import remembered
from lottapack.arch.family import Family
from lottapack.arch.torch_nn import heads
from lottapack.arch.trust import is_allowed, require_allowed
from lottapack.errors import ArchitectureError, NotAllowedError, UnsupportedError
from lottapack.format.arguments import class_paths, decode

_log = logging.getLogger(__name__)


def prepare(class_name: str, config: dict[str, Any]) -> None:
    """Import what the architecture names, if all of it is allowed.

    Raises NotAllowedError before anything is imported, and for a class that another module defines; UnsupportedError
    for a missing package; ArchitectureError.
    """
    require_allowed(modules_of(class_name, config), f"the architecture {class_name}")
    for path in paths_of(class_name, config):
        _object_at(path)


def construct(class_name: str, config: dict[str, Any]) -> nn.Module:
    """Call the class that prepare() imported. Raises the errors of prepare()."""
    arguments = {name: decode(value, _make, _object_at) for name, value in config.items()}
    model = _class_at(class_name)
    if not issubclass(model, nn.Module):
        raise ArchitectureError(f"{class_name} is not a torch.nn.Module", hint="Name a class of modules.")
    made = model(**arguments)
    if not isinstance(made, nn.Module):
        raise ArchitectureError(
            f"calling {class_name} returns a {type(made).__name__}, not a torch.nn.Module",
            hint="Name a class of modules.",
        )
    return made


def paths_of(class_name: str, config: dict[str, Any]) -> list[str]:
    """Return the classes that an architecture names."""
    return [class_name, *class_paths(list(config.values()))]


def modules_of(class_name: str, config: dict[str, Any]) -> list[str]:
    """Return the modules of these classes."""
    return [path.partition(":")[0] for path in paths_of(class_name, config)]


def _make(path: str, arguments: dict[str, Any]) -> Any:
    return _class_at(path)(**arguments)


def _class_at(path: str) -> Any:
    """Return the class at a path whose module is allowed."""
    found = _object_at(path)
    if not isinstance(found, type):
        raise ArchitectureError(
            f"{path} is a {type(found).__name__}, not a class",
            hint="Name the class that it builds, with the arguments that it passes.",
        )
    return found


def _object_at(path: str) -> Any:
    """Return the class or function at a path whose module is allowed."""
    module_name, _, name = path.partition(":")
    require_allowed([module_name], path)
    found = getattr(_imported(module_name), name, None)
    if found is None:
        raise ArchitectureError(
            f"{module_name} does not define {name!r}",
            hint="Install the version of the package that the pack was made with.",
        )
    if not isinstance(found, type | FunctionType):
        what = "not a class or a function of Python"
        raise ArchitectureError(f"{path} is a {type(found).__name__}, {what}", hint="Name a class.")
    # An allowed module may contain classes of any other module that it imports.
    home, what = found.__module__, "class" if isinstance(found, type) else "function"
    if not is_allowed(home):
        raise NotAllowedError(
            f"{path} is the {what} {found.__qualname__} of {home}, which `allow` does not include",
            hint=f"Name it as {home}:{found.__qualname__}, or allow {home.partition('.')[0]} too if you trust it.",
        )
    return found


def _imported(module_name: str) -> Any:
    package = module_name.partition(".")[0]
    if module_name not in sys.modules:
        _log.info("importing %s", module_name)
    try:
        return import_module(module_name)
    except ModuleNotFoundError as fault:
        missing = fault.name or package
        if missing.partition(".")[0] == package and missing != package:
            raise ArchitectureError(
                f"the installed {package} does not have the module {missing}",
                hint="Install the version of the package that the pack was made with.",
            ) from fault
        wanted = missing.partition(".")[0]
        what = package if wanted == package else f"{package}, and that needs {wanted}"
        raise UnsupportedError(
            f"the pack needs the package {what}, which is not installed",
            hint=f"Install it: pip install {wanted} (if its distribution has the same name).",
        ) from fault
    except ImportError as fault:
        raise UnsupportedError(
            f"the pack needs {module_name}, which cannot be imported: {fault}", hint="Repair its installation."
        ) from fault


def versions(class_name: str, config: dict[str, Any]) -> tuple[str, ...]:
    """Return the packages whose versions a pack records."""
    return tuple(sorted({module.partition(".")[0] for module in modules_of(class_name, config)}))


FAMILY = Family(
    name="python",
    owns=lambda model: remembered.family(model) == "python",
    describe=remembered.describe,
    construct=construct,
    draw=construct,
    heads=heads,
    tools=versions,
    remembers=True,
    fills=lambda _, __: True,
    numbers="calls",
    prepare=prepare,
)
