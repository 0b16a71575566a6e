"""Dtypes of tensors that a constructor computes and no checkpoint holds, which a cast of the model changes too."""

from collections.abc import Mapping

import torch
from torch import nn

from lottapack.arch.noted import noted, notes
from lottapack.arch.skeleton import computed_tensors, plain_name, same_tensor, set_attribute
from lottapack.errors import ArchitectureError
from lottapack.format import dtypes


def note_built(model: nn.Module, built: nn.Module) -> None:
    """Note on a model the dtypes that its constructor computes, from ``built``, which may be the model itself."""
    if noted(model).computed is None:
        notes(model).computed = {name: dtypes.dtype_name(tensor.dtype) for name, tensor in _floating(built).items()}


def changed_dtypes(model: nn.Module, built: nn.Module | None = None) -> dict[str, str]:
    """Return the present dtypes of a model's computed tensors, by name, that differ from those of its constructor.

    ``built``: the model as constructed; by default what note_built() noted.
    """
    due = noted(model).computed or {}
    if built is not None:
        due = {name: dtypes.dtype_name(tensor.dtype) for name, tensor in _floating(built).items()}
    held = {name: dtypes.dtype_name(tensor.dtype) for name, tensor in _floating(model).items()} if due else {}
    return {name: held[name] for name, dtype in due.items() if held.get(name, dtype) != dtype}


def cast_computed(model: nn.Module, wanted: Mapping[str, str], label: str) -> nn.Module:
    """Cast computed tensors to the dtypes of a pack or recipe, in place; the constructor's dtypes stay noted.

    Raises ArchitectureError for a name that the model does not compute.
    """
    note_built(model, model)
    for name in cast_known(model, wanted):
        raise ArchitectureError(
            f"{label} as built here does not compute {name}, which the pack records as {wanted[name]}",
            hint="Install the version of the library that the pack names in its provenance.",
        )
    return model


def cast_known(model: nn.Module, wanted: Mapping[str, str]) -> list[str]:
    """Cast the computed tensors that a model has to these dtypes, in place; return the names that it does not have."""
    held = _floating(model) if wanted else {}
    for name in wanted.keys() & held.keys():
        prefix, _, leaf = name.rpartition(".")
        owner, tensor = model.get_submodule(prefix), held[name].to(dtypes.torch_dtype(wanted[name]))
        if leaf in owner._buffers:
            owner._buffers[leaf] = tensor
        else:
            set_attribute(owner, leaf, tensor)
    return [name for name in wanted if name not in held]


def changed_values(model: nn.Module, built: nn.Module) -> str | None:
    """Return the name of the first computed tensor whose values differ from the constructor's, in the model's dtype.

    Ignores tensors of another shape, and rotary embeddings that follow a sequence's length: forward passes renew these.
    """
    held, modules = _by_plain_name(model), dict(built.named_modules())
    for name, built_tensor in _by_plain_name(built).items():
        current = held.get(name)
        rule = vars(modules[name.rpartition(".")[0]]).get("rope_type")
        if current is None or current.is_meta or current.shape != built_tensor.shape or hasattr(current, "device_mesh"):
            continue
        rules = rule.values() if isinstance(rule, dict) else (rule,)
        if not (
            _MADE_ANEW & {str(rule) for rule in rules}
            or same_tensor(current.detach().cpu(), built_tensor.to(current.dtype).cpu())
        ):
            return name
    return None


_MADE_ANEW = frozenset({"dynamic", "longrope"})


def _floating(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in _by_plain_name(model).items() if tensor.is_floating_point()}


def _by_plain_name(model: nn.Module) -> dict[str, torch.Tensor]:
    return {plain_name(name): tensor for name, tensor in computed_tensors(model)}
