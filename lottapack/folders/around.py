"""What a module around the scaffolded model computes, which is in no pack."""

import dis
import inspect
import types
import warnings
from collections.abc import Collection, Iterator
from typing import Any, Final

from torch import nn

from lottapack.arch.said import OBSERVERS
from lottapack.errors import CheckpointError, LeftOutWarning
from lottapack.folders.states import LeftOut

_COMPUTING: Final = ("BINARY_", "UNARY_", "COMPARE_", "LOAD_GLOBAL")
"""Instructions of a forward() that does more than to call the model: operators, and functions of other modules."""


def require_no_sequence(model: nn.Module, part: nn.Module, leaving: LeftOut) -> None:
    """Refuse a ``Sequential`` around the scaffolded part: its other modules compute too, and are in no pack.

    Modules with tensors are refused elsewhere. Raises CheckpointError.
    """
    for name, module in _around(model, part):
        if type(module) is not nn.Sequential:
            continue
        others = [
            f"{name}.{key}".lstrip(".")
            for key, child in module.named_children()
            if not isinstance(child, nn.Identity) and all(part is not one for one in child.modules())
        ]
        left = leaving.rest(others)
        if left:
            kind = type(model.get_submodule(left[0])).__name__
            raise CheckpointError(
                f"the pack would leave out {left[0]} (a {kind}), which the Sequential computes beside the scaffolded "
                "model",
                hint=f"Scaffold the whole Sequential, or leave the module out by name: `ignore={left[0]}`.",
            )


def warn_of_forwards(model: nn.Module, part: nn.Module) -> None:
    """Warn of a module around the scaffolded part whose own ``forward`` does more than to call it.

    Wrappers of libraries that train models only hold them.
    """
    inner = next(name for name, module in model.named_modules() if module is part)
    for _, module in _around(model, part):
        cls = next((base for base in type(module).__mro__ if "forward" in vars(base)), nn.Module)
        if cls.__module__.partition(".")[0] not in OBSERVERS and not _passes_on(vars(cls)["forward"], inner.split(".")):
            warnings.warn(
                f"the pack holds {inner} ({type(part).__name__}) alone, and not what {cls.__name__}.forward() computes "
                f"around it. To pack all of it, scaffold the whole {type(model).__name__}; to say that {inner} is "
                "meant, pass that module to pack()",
                LeftOutWarning,
                stacklevel=4,
            )
            return


def _around(model: nn.Module, part: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a model that contain its scaffolded part."""
    inside = {id(module) for module in part.modules()}
    for name, module in model.named_modules():
        if id(module) not in inside and any(part is one for one in module.modules()):
            yield name, module


def _passes_on(forward: Any, path: Collection[str]) -> bool:
    """Whether a function calls the module at the path, or its ``forward``, and does nothing else."""
    function = inspect.unwrap(forward)
    if not isinstance(function, types.FunctionType):
        return False
    done = [instruction.opname for instruction in dis.get_instructions(function)]
    calls = [name for name in done if name in ("CALL", "CALL_KW", "CALL_FUNCTION_EX")]
    computes = any(name.startswith(_COMPUTING) for name in done)
    return len(calls) == 1 and not computes and set(function.__code__.co_names) <= {*path, "forward"}
