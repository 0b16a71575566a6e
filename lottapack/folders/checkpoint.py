"""Finding the recipe and the tensors of a model in what a trainer saved, or in a live module."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lottapack import arch
from lottapack.arch.skeleton import shapes_of
from lottapack.errors import ArchitectureError, CheckpointError, LimitError, NotAllowedError, UnsupportedError
from lottapack.folders.bits import same_bits
from lottapack.folders.states import LeftOut, beside, choose, plain_name
from lottapack.format import recipe
from lottapack.format.names import ADAPTER_PARTS, BACKBONE, adapter_prefix, parameter_of
from lottapack.format.recipe import AdaptedRecipe, Recipe, StoredRecipe, TiedRecipe


def split(
    content: Mapping[str, Any], key: str | None = None, leaving: LeftOut | None = None
) -> tuple[Recipe, dict[str, Tensor]]:
    """The recipe, and the tensors by their names in the model. Raises CheckpointError.

    Args:
        content: a state_dict, or dicts around it (``{"model": ..., "optimizer": ...}``).
        key: which, where several could be meant.
        leaving: what else may be left out; and takes note of it.
    """
    return _split(content, key, leaving, {})


def _split(
    content: Mapping[str, Any], key: str | None, leaving: LeftOut | None, buffers: Mapping[str, Tensor]
) -> tuple[Recipe, dict[str, Tensor]]:
    """``buffers``: of a live model, by the same names; the backbone is in no state_dict."""
    leaving = LeftOut() if leaving is None else leaving
    found = choose(content, _prefixes, key)
    if found is None:
        raise CheckpointError(
            "the checkpoint carries no lottapack recipe: lottapack packs models that were trained from random weights, "
            "whose backbone a seed generates",
            hint="Save the state_dict of a model from lottapack.scaffold(), with the tensor lottapack_recipe. Without "
            "one: lottapack.recover.torch_cpu() if torch drew it from a known seed, lottapack.recover.merged() if it "
            "is merged. Pretrained weights, fine-tuned or not, cannot be packed.",
        )
    state, others = found
    leaving.names += [other.address for other in others]
    require_none_beside(leaving.rest(beside(content, state, others)))
    tensors = state.own()
    plan = recipe.of_tensor(tensors.pop(recipe.BUFFER))
    own = _own_names(plan)
    tensors = _unwrapped(own, tensors)
    inside = {plain_name(name): buffer for name, buffer in buffers.items()}
    inside = {n.removeprefix(state.prefix): buffer for n, buffer in inside.items() if n.startswith(state.prefix)}
    inside = {parameter_of(name, plan.parameters): buffer for name, buffer in _unwrapped(own, inside).items()}
    tensors = {parameter_of(name, plan.parameters): tensor for name, tensor in tensors.items()}
    tensors = {name: buffer for name, buffer in inside.items() if name in plan.parameters} | tensors
    for name, tensor in tensors.items():
        require_plain(name, tensor)
    return plan, under_own_names(plan, tensors)


def _prefixes(state: Mapping[str, Any]) -> list[str]:
    """What stands before the recipes of a state_dict."""
    return [name.removesuffix(recipe.BUFFER) for name in state if name.rpartition(".")[2] == recipe.BUFFER]


def require_none_beside(left: list[str]) -> None:
    """Raise CheckpointError for tensors that a pack of the model would leave out."""
    if left:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        raise CheckpointError(
            f"{len(left)} tensors beside the scaffolded model would not be in the pack: {', '.join(left[:5])}{more}",
            hint="Scaffold the whole model, so that its pack holds them; or leave them out by name with ignore "
            f"(--ignore), as in ignore=[{left[0].partition('.')[0]!r}].",
        )


def require_plain(name: str, tensor: Tensor) -> None:
    """Raise CheckpointError for a tensor that is more than its elements, or less."""
    if hasattr(tensor, "device_mesh"):
        raise CheckpointError(
            f"{name} is a distributed tensor, of which each process holds a part",
            hint="Gather it first, in every process: torch.distributed.checkpoint.state_dict.get_model_state_dict("
            "model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)); then pack the result in one.",
        )
    layout = str(tensor.layout).removeprefix("torch.")
    if layout != "strided" or tensor.is_quantized or tensor.is_nested:
        kind = "quantized" if tensor.is_quantized else "nested" if tensor.is_nested else layout
        way = "dequantize" if tensor.is_quantized else "to_dense"
        raise CheckpointError(
            f"{name} is a {kind} tensor, which the format does not have",
            hint=f"Save it dense: state[{name!r}] = state[{name!r}].{way}().",
        )
    if hasattr(type(tensor), "__tensor_flatten__"):
        raise CheckpointError(
            f"{name} is a {type(tensor).__module__}.{type(tensor).__name__}, not a plain tensor",
            hint="Save the plain tensor that it stands for, of the shape and dtype that the model was scaffolded with.",
        )


def require_finite(name: str, tensor: Tensor, *, infinity: bool) -> None:
    """Raise CheckpointError for NaN in a tensor; and for infinity, which masks hold but nothing that was trained."""
    if not tensor.is_floating_point():
        return
    wide = tensor.detach().float() if tensor.element_size() == 1 else tensor.detach()
    count = int((~wide.isfinite() if infinity else wide.isnan()).sum())
    if count:
        raise CheckpointError(
            f"{name} holds NaN or infinity in {count:,} of its {tensor.numel():,} elements",
            hint="Training diverged: pack an earlier checkpoint; or pack it as it is with allow_nonfinite=True "
            "(--allow-nonfinite).",
        )


def _own_names(plan: Recipe) -> set[str]:
    """The names of all tensors that a recipe knows."""
    own = set(plan.parameters)
    for name, entry in plan.parameters.items():
        if isinstance(entry, AdaptedRecipe | TiedRecipe):
            own |= {adapter_prefix(name) + part for part in (*ADAPTER_PARTS, BACKBONE)}
    return own


def _unwrapped(own: set[str], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without what a wrapper such as DDP puts into the names of a part of the model."""
    found = {}
    for name, tensor in tensors.items():
        if name not in own and ".module." in f".{name}":
            short = ".".join(part for part in name.split(".") if part != "module")
            if short in own and short not in tensors:
                name = short
        found[name] = tensor
    return found


def under_own_names(plan: Recipe, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as the model holds them: a library may save them under other names, split or joined."""
    own = _own_names(plan)
    # Building the model could need a package or a permission, so only where it can help.
    if tensors.keys() <= own or not arch.family_called(plan.architecture.family).converted:
        return tensors
    model = arch.build(plan.architecture)
    return arch.family_of(model).as_in_model(model, tensors, own)


def fitted(plan: Recipe, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, stored ones of whole numbers in the model's dtype again. Raises CheckpointError for another shape.

    Some tools save every buffer as float32. A recipe tells neither shapes nor dtypes of what is stored, so the model is
    built, without weights, where it can be.
    """
    try:
        model = arch.build(plan.architecture)
    except (ArchitectureError, LimitError, NotAllowedError, UnsupportedError):
        return dict(tensors)  # here; elsewhere it may be built
    found, due = dict(tensors), model.state_dict(keep_vars=True)
    for name, shape in shapes_of(model).items():
        if name not in tensors or not isinstance(plan.parameters.get(name), StoredRecipe):
            continue
        if tuple(tensors[name].shape) != shape:
            raise CheckpointError(
                f"{name} has shape {tuple(tensors[name].shape)}, and {shape} in the model that was scaffolded",
                hint="A layer was replaced or resized after scaffold(), which keeps the model as it was: do it before.",
            )
        if tensors[name].is_floating_point() and not due[name].is_floating_point():
            found[name] = _as_whole_numbers(name, tensors[name], due[name].dtype)
    return found


def _as_whole_numbers(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    whole = tensor.to(dtype)
    if not torch.equal(whole.to(tensor.dtype), tensor):
        raise CheckpointError(
            f"{name} is {tensor.dtype} and not of whole numbers; in the model it is {dtype}",
            hint="An average over buffers makes such numbers. Take this one from one of the checkpoints.",
        )
    return whole


def reconcile_ties(plan: Recipe, tensors: dict[str, Tensor]) -> set[str]:
    """Tied entries may be in a checkpoint too: give the owner a tensor that only its copy has; return the copies.

    Raises CheckpointError where a copy has drifted from its owner.
    """
    copies = set()
    for name, entry in plan.parameters.items():
        if not isinstance(entry, TiedRecipe):
            continue
        owner = plan.resolve(name)
        pairs = [(name, owner)]
        if isinstance(plan.parameters[owner], AdaptedRecipe):
            pairs += [(adapter_prefix(name) + part, adapter_prefix(owner) + part) for part in ADAPTER_PARTS]
        for copy, original in pairs:
            if copy in tensors and copy != original:
                copies.add(copy)
                if not same_bits(tensors[copy], tensors.setdefault(original, tensors[copy])):
                    raise CheckpointError(
                        f"{copy} was tied to {original} when the model was scaffolded, and now differs",
                        hint="Something untied them in training; tie them again, or scaffold an untied model.",
                    )
    return copies


def of_model(
    model: nn.Module, key: str | None = None, leaving: LeftOut | None = None
) -> tuple[Recipe, dict[str, Tensor]]:
    """As split(), of a live model, with its backbone, so that packing can compare it."""
    return _split(model.state_dict(), key, leaving, dict(model.named_buffers(remove_duplicate=False)))
