"""The dtypes of tensors that a constructor computes and no checkpoint holds: a cast of the model casts them too."""

from collections.abc import Mapping

import torch
from torch import nn

from lottapack.arch.skeleton import WRAPPERS, computed_tensors, same_tensor
from lottapack.errors import ArchitectureError
from lottapack.format import dtypes

_BUILT = "_lottapack_computed"
"""The attribute of a model that says in which dtypes its constructor computes them."""


def note_built(model: nn.Module, built: nn.Module) -> None:
    """Note on a model what its constructor computes: what ``built`` holds, which may be the model itself."""
    noted = {name: dtypes.dtype_name(tensor.dtype) for name, tensor in _floating(built).items()}
    model.__dict__.setdefault(_BUILT, noted)


def changed_dtypes(model: nn.Module, built: nn.Module | None = None) -> dict[str, str]:
    """The dtypes that a model's computed tensors have now, by name, where its constructor gives them another.

    ``built``: the model as its constructor gives it; by default what note_built() noted.
    """
    noted: Mapping[str, str] = model.__dict__.get(_BUILT, {})
    if built is not None:
        noted = {name: dtypes.dtype_name(tensor.dtype) for name, tensor in _floating(built).items()}
    held = {name: dtypes.dtype_name(tensor.dtype) for name, tensor in _floating(model).items()} if noted else {}
    return {name: held[name] for name, dtype in noted.items() if held.get(name, dtype) != dtype}


def cast_computed(model: nn.Module, wanted: Mapping[str, str], label: str) -> nn.Module:
    """Give computed tensors the dtypes of a pack or recipe, in place; what the constructor gave stays noted.

    Raises ArchitectureError for a name under which the model computes nothing.
    """
    note_built(model, model)
    held = _floating(model)
    for name, dtype in wanted.items():
        if name not in held:
            raise ArchitectureError(
                f"{label} as built here computes no {name}, which was {dtype} when it was packed",
                hint="The library may be another version than the one that the pack names in its provenance.",
            )
        prefix, _, leaf = name.rpartition(".")
        owner, tensor = model.get_submodule(prefix), held[name].to(dtypes.torch_dtype(dtype))
        if leaf in owner._buffers:
            owner._buffers[leaf] = tensor
        else:
            setattr(owner, leaf, tensor)
    return model


def changed_values(model: nn.Module, built: nn.Module) -> str | None:
    """The first of a model's computed tensors with other values than its constructor gives, in the model's dtype.

    Not one of another shape, or on rotary embeddings that follow a sequence's length: forward passes make these anew.
    """
    held, modules = _by_plain_name(model), dict(built.named_modules())
    for name, due in _by_plain_name(built).items():
        now = held.get(name)
        rule = vars(modules[name.rpartition(".")[0]]).get("rope_type")
        if now is None or now.is_meta or now.shape != due.shape or hasattr(now, "device_mesh"):
            continue
        rules = rule.values() if isinstance(rule, dict) else (rule,)
        if not (_MADE_ANEW & {str(one) for one in rules} or same_tensor(now.detach().cpu(), due.to(now.dtype).cpu())):
            return name
    return None


_MADE_ANEW = frozenset({"dynamic", "longrope"})


def _floating(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in _by_plain_name(model).items() if tensor.is_floating_point()}


def _by_plain_name(model: nn.Module) -> dict[str, torch.Tensor]:
    return {
        ".".join(step for step in name.split(".") if step not in WRAPPERS): tensor
        for name, tensor in computed_tensors(model)
    }
