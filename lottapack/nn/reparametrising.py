"""What torch.nn.utils would do to a generated weight, which no parameter holds, is refused before anything changes.

torch looks for the parameter and fails with its own errors: pruning, weight_norm, spectral_norm, parametrizations.
"""

import sys
from functools import partial
from typing import Any, Final

from torch import Tensor, nn

from lottapack.errors import PlacementError, ScaffoldError

_REGISTER: Final = "register_parametrization"

AS_PARAMETER: Final = (
    'Build it by lottapack.distributed.load_meta(PACK, backbone="parameter"), shard it, then call '
    "lottapack.distributed.fill_(model, PACK); or by load_meta(PACK, merge=True)."
)
"""What to do to shard a layer whose backbone is a buffer, as the hint of an error."""


class NoParameterError(ScaffoldError, KeyError):
    """A generated weight is looked for among parameters. As torch's own error, a KeyError too."""


class Parameters(dict[str, Any]):
    """The parameters of a layer. Who asks for a generated weight among them learns why it is not there."""

    generated: dict[str, str]
    """By last name, the names of generated weights."""

    def __missing__(self, leaf: str) -> Any:
        raise refused(self.generated[leaf], "") if leaf in self.generated else KeyError(leaf)

    def __delitem__(self, leaf: str) -> None:
        if leaf in self.generated and leaf not in self:
            raise refused(self.generated[leaf], "")
        super().__delitem__(leaf)


def refused(name: str, what: str) -> NoParameterError:
    """Return the error for a function of torch.nn.utils on a generated weight. ``what``: the function, if known."""
    return NoParameterError(
        f"{name} is generated from its seed, and no parameter: {what or 'torch.nn.utils'} cannot replace it",
        hint="To prune or normalise this weight, scaffold the model with the layer in train, so that it is trained in "
        "full. Of a layer with an adapter, lora_A and lora_B can be. Make it permanent before packing, as "
        "prune.remove(module, NAME) or parametrize.remove_parametrizations(module, NAME) does.",
    )


def guard_parameters(module: nn.Module, leaf: str, name: str, *, of_torch: bool) -> None:
    """Let a module tell who looks for a generated weight among its parameters.

    Args:
        module: holds the weight.
        leaf: the last name of that.
        name: the whole name.
        of_torch: whether the module's class is torch's own, which does not call refuse_pruning() itself.
    """
    held = module.__dict__["_parameters"]
    if not isinstance(held, Parameters):
        made = Parameters(held)
        made.generated = {}
        module.__dict__["_parameters"] = held = made
        if of_torch:
            module.__dict__["register_parameter"] = partial(_register, module)
    held.generated[leaf] = name


def _register(module: nn.Module, name: str, param: Any) -> None:
    """As the class's own method."""
    refuse_pruning(module, name, param)
    if name in module._buffers and hasattr(param, "device_mesh"):
        raise PlacementError(
            f"RowwiseParallel cannot shard {module}: its backbone is not a parameter",
            hint=AS_PARAMETER,
        )
    type(module).register_parameter(module, name, param)


def refuse_pruning(module: nn.Module, name: str, param: Any) -> None:
    """Raise NoParameterError for what pruning would register of a generated weight."""
    generated = getattr(module.__dict__["_parameters"], "generated", {})
    leaf = name.removesuffix("_orig")
    source = generated.get("weight" if leaf == "backbone" else leaf)
    if name != leaf and source is not None and isinstance(param, Tensor) and not isinstance(param, nn.Parameter):
        raise refused(source, "torch.nn.utils.prune")


def refuse_parametrization(module: nn.Module) -> None:
    """Raise NoParameterError if the caller's caller registers a parametrization of a weight that a layer stands for.

    torch looks for ``parametrizations`` on the module first, and does not read the weight.
    """
    asks = sys._getframe(3)  # behind the property and what it calls
    caller = asks.f_back if asks.f_code.co_name == "is_parametrized" else None
    if caller is None or caller.f_code.co_name != _REGISTER:
        return
    leaf, generated = caller.f_locals.get("tensor_name"), getattr(module.__dict__["_parameters"], "generated", {})
    if leaf in generated:
        raise refused(generated[leaf], f"torch.nn.utils.parametrize.{_REGISTER}")
