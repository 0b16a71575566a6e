"""Find the recipe and the tensors of a model in what a trainer saved, or in a live module."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lottapack import arch
from lottapack.arch.bits import kind_of
from lottapack.arch.skeleton import plain_name, shapes_of
from lottapack.errors import ArchitectureError, CheckpointError, LimitError, NotAllowedError, UnsupportedError
from lottapack.folders.bits import same_bits
from lottapack.folders.changes import refuse_changes
from lottapack.folders.states import LeftOut, beside, choose, require_tensors
from lottapack.format import recipe
from lottapack.format.names import ADAPTER_PARTS, BACKBONE, adapter_prefix, parameter_of
from lottapack.format.recipe import AdaptedRecipe, Recipe, StoredRecipe, TiedRecipe
from lottapack.nn.changes import rounded_by_casts


def split(
    content: Mapping[str, Any], key: str | None = None, leaving: LeftOut | None = None
) -> tuple[Recipe, dict[str, Tensor]]:
    """Return the recipe, and the tensors by their names in the model. Raises CheckpointError.

    Args:
        content: a state_dict, or dicts around it (``{"model": ..., "optimizer": ...}``).
        key: the name of the one to use, if there are several.
        leaving: what else may be left out; what was left out is added to it.
    """
    return _split(content, key, leaving, {}, "the checkpoint")


def _split(
    content: Mapping[str, Any],
    key: str | None,
    leaving: LeftOut | None,
    buffers: Mapping[str, Tensor],
    what: str,
) -> tuple[Recipe, dict[str, Tensor]]:
    """Split like split(). ``what``: the checkpoint or the model, for errors.

    ``buffers``: those of a live model by the same names; the backbone is in no state_dict.
    """
    leaving = LeftOut() if leaving is None else leaving
    chosen = choose(content, _prefixes, key)
    if chosen is None:
        require_tensors(content, recipe.BUFFER)
        raise CheckpointError(
            f"{what} does not contain a lottapack recipe. lottapack packs models that were trained from random "
            "weights, whose backbone a seed generates",
            hint="Save the whole state_dict after lottapack.scaffold(). Without one, use "
            "`lottapack.recover.torch_cpu()` if torch drew the weights from a known seed, or "
            "`lottapack.recover.merged()` if adapters were merged. Pretrained weights cannot be packed.",
        )
    state, others = chosen
    leaving.names += [other.address for other in others]
    tensors = state.own()
    plan = recipe.of_tensor(tensors.pop(recipe.BUFFER))
    left = leaving.rest(beside(content, state, others))
    if left and plan.changed:  # what was put into the model says more than the tensors that it brought
        refuse_changes(plan.changed, plan.architecture.class_, leaving)
    require_none_beside(left)
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
    """Return what precedes the recipes' names in a state_dict."""
    return [name.removesuffix(recipe.BUFFER) for name in state if name.rpartition(".")[2] == recipe.BUFFER]


def require_none_beside(left: list[str]) -> None:
    """Raise CheckpointError for tensors that the model's pack would leave out."""
    if left:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        raise CheckpointError(
            f"{len(left)} tensors beside the scaffolded model would not be in the pack: {', '.join(left[:5])}{more}",
            hint="Scaffold the whole model, so that its pack contains them; or leave them out by name, such as "
            f"`ignore={left[0].partition('.')[0]}`.",
        )


def require_plain(name: str, tensor: Tensor) -> None:
    """Raise CheckpointError for a tensor that is not plain, dense and whole."""
    if hasattr(tensor, "device_mesh"):
        raise CheckpointError(
            f"{name} is a distributed tensor, and each process holds only a part of it",
            hint="Gather it first, in every process: torch.distributed.checkpoint.state_dict.get_model_state_dict("
            "model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)); then pack the result in one.",
        )
    kind = kind_of(tensor)
    if kind != "strided":
        way = "dequantize" if tensor.is_quantized else "to_dense"
        raise CheckpointError(
            f"{name} is a {kind} tensor, which the format does not support",
            hint=f"Save it dense: state[{name!r}] = state[{name!r}].{way}().",
        )
    if hasattr(type(tensor), "__tensor_flatten__"):
        raise CheckpointError(
            f"{name} is a {type(tensor).__module__}.{type(tensor).__name__}, not a plain tensor",
            hint="Save the plain tensor that it stands for, in the shape and dtype that the model was scaffolded with.",
        )


def require_finite(name: str, tensor: Tensor, *, infinity: bool) -> None:
    """Raise CheckpointError for NaN in a tensor, and unless ``infinity`` for infinity, which only masks contain."""
    if not tensor.is_floating_point():
        return
    wide = tensor.detach().float() if tensor.element_size() == 1 else tensor.detach()
    count = int((~wide.isfinite() if infinity else wide.isnan()).sum())
    if count:
        raise CheckpointError(
            f"{name} has NaN or infinity in {count:,} of its {tensor.numel():,} elements",
            hint="Training diverged. Pack an earlier checkpoint, or pack this one as it is with `allow_nonfinite`.",
        )


def _own_names(plan: Recipe) -> set[str]:
    """Return the names of all tensors that a recipe describes."""
    own = set(plan.parameters)
    for name, entry in plan.parameters.items():
        if isinstance(entry, AdaptedRecipe | TiedRecipe):
            own |= {adapter_prefix(name) + part for part in (*ADAPTER_PARTS, BACKBONE)}
    return own


def _unwrapped(own: set[str], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without what a wrapper such as DDP adds to the names of a part of the model."""
    unwrapped = {}
    for name, tensor in tensors.items():
        if name not in own and ".module." in f".{name}":
            short = ".".join(part for part in name.split(".") if part != "module")
            if short in own and short not in tensors:
                name = short
        unwrapped[name] = tensor
    return unwrapped


def under_own_names(plan: Recipe, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as the model holds them; a library may save them under other names, split or joined."""
    own = _own_names(plan)
    # Building the model may need a package or a permission, so this happens only if it can help.
    if tensors.keys() <= own or not arch.family_called(plan.architecture.family).converted:
        return tensors
    model = arch.build(plan.architecture)
    return arch.family_of(model).as_in_model(model, tensors, own)


def fitted(plan: Recipe, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors, with stored integer tensors in the model's dtype again. Raises CheckpointError for shapes.

    Some tools save every buffer as float32. A recipe records neither shapes nor dtypes of stored tensors, so the model
    is built, without weights, if that is possible.
    """
    try:
        model = arch.build(plan.architecture)
    except (ArchitectureError, LimitError, NotAllowedError, UnsupportedError):
        return dict(tensors)  # the model cannot be built here, but may be elsewhere
    fitting, expected = dict(tensors), model.state_dict(keep_vars=True)
    for name, shape in shapes_of(model).items():
        if name not in tensors or not isinstance(plan.parameters.get(name), StoredRecipe):
            continue
        if tuple(tensors[name].shape) != shape:
            raise CheckpointError(
                f"{name} has shape {tuple(tensors[name].shape)}, but {shape} in the model that was scaffolded",
                hint="A layer was replaced or resized after scaffold(). Do that before scaffold().",
            )
        if tensors[name].is_floating_point() and not expected[name].is_floating_point():
            fitting[name] = _as_whole_numbers(name, tensors[name], expected[name].dtype)
    return fitting


def _as_whole_numbers(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    whole = tensor.to(dtype)
    if not torch.equal(whole.to(tensor.dtype), tensor):
        raise CheckpointError(
            f"{name} is {tensor.dtype} with values that are not integers; in the model it is {dtype}",
            hint="Averaging buffers gives such values. Take this tensor from one of the checkpoints.",
        )
    return whole


def reconcile_ties(plan: Recipe, tensors: dict[str, Tensor]) -> set[str]:
    """Give the owner of a tie a tensor that only its copy has; return the names of the copies.

    A checkpoint may contain tied entries too. Raises CheckpointError if a copy differs from its owner.
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
                        f"{copy} was tied to {original} when the model was scaffolded, but now differs from it",
                        hint="Training untied them. Tie them again, or scaffold a model without this tie.",
                    )
    return copies


def of_model(
    model: nn.Module, key: str | None = None, leaving: LeftOut | None = None
) -> tuple[Recipe, dict[str, Tensor]]:
    """Split a live model like split(), including its backbone, so that packing can compare it."""
    backbones = dict(model.named_buffers(remove_duplicate=False)) | rounded_by_casts(model)
    return _split(model.state_dict(), key, leaving, backbones, "the model")
