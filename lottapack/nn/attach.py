"""Apply a recipe to a plain model: generated weights become frozen buffers, targets become adapter layers."""

import warnings
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from lottapack import arch, rng
from lottapack.arch.as_built import note_as_built
from lottapack.arch.computed_dtypes import note_built
from lottapack.arch.noted import noted, notes, recipe_on, require_module
from lottapack.arch.said import has_values
from lottapack.errors import ArchitectureError, BackboneChangedWarning, CheckpointError
from lottapack.format import recipe
from lottapack.format.descriptor import DEFAULT_SCAFFOLD
from lottapack.format.factors import batch_dims_of
from lottapack.format.names import WEIGHT
from lottapack.format.recipe import AdaptedRecipe, ParameterRecipe, Recipe, SeededRecipe, TiedRecipe
from lottapack.nn import layers
from lottapack.nn.any_module import AdaptedModule, adapt, taken_from
from lottapack.nn.changes import changed_backbones
from lottapack.nn.generated import generated_of
from lottapack.nn.generated_layer import GeneratedLayer, held_as
from lottapack.nn.kinds import changes_itself, inputs_first
from lottapack.nn.moment import note_config, of_the_moment
from lottapack.nn.recomputing import watch
from lottapack.nn.reparametrising import guard_parameters
from lottapack.nn.resizing import guard_resizing
from lottapack.nn.resuming import reconcile_backbone
from lottapack.nn.rows import row_of
from lottapack.nn.same_layer import SameLayer, refusal
from lottapack.nn.saving import mark_saved_folders
from lottapack.nn.tied_head import TiedHead, leave_alone, share
from lottapack.nn.together import OneScaffold, require_own_scaffold, require_scaffold


def attach(
    model: nn.Module,
    plan: Recipe,
    *,
    dropout: float = 0.0,
    persistent: bool = False,
    scaffold: str = DEFAULT_SCAFFOLD,
) -> None:
    """Turn a plain model into the recipe's form, in place.

    Values of weights stay as they are; adapters are uninitialised. ``persistent``: keep the backbone in the state_dict.
    ``scaffold``: the scaffold of the model's weights.
    """
    note_built(model, model)
    note_as_built(model, model)
    sources = plan.sources(scaffold)
    for name, entry in _in_model_order(model, plan):
        if not isinstance(entry, SeededRecipe | AdaptedRecipe):
            continue
        module, leaf = locate(model, name)
        if name in sources:
            _set_source(module, leaf, sources[name], plan)
        if isinstance(entry, SeededRecipe):
            row = row_of(module) if leaf == WEIGHT else None
            if row is not None and row.frozen is not None:
                module.__class__ = row.frozen
            _to_buffer(module, leaf, persistent)
        else:
            _adapt(module, name, leaf, entry, dropout, persistent)
    tie_all(model, plan, persistent)
    for name, entry in plan.parameters.items():
        if isinstance(entry, recipe.StoredRecipe):
            module, leaf = locate(model, name)
            parameter = module._parameters.get(leaf)
            # Scripts often freeze the whole model before they attach adapters: the recipe says what trains.
            if parameter is not None:
                parameter.requires_grad_(entry.trained)
    carry(model, plan)
    _guard(model, plan)


def _in_model_order(model: nn.Module, plan: Recipe) -> list[tuple[str, ParameterRecipe]]:
    """Return the plan's entries in the order of the model's parameters.

    Optimizers number parameters, and the plan of a pack is in the order of names.
    """
    numbers = {name: number for number, (name, _) in enumerate(model.named_parameters(remove_duplicate=False))}
    return sorted(plan.parameters.items(), key=lambda item: numbers.get(item[0], len(numbers)))


def without_dropout(model: nn.Module, plan: Recipe) -> dict[str, list[str]]:
    """Return the parameters on whose adapter dropout has no effect, by the reason in words."""
    inert: dict[str, list[str]] = {}
    for name, entry in plan.parameters.items():
        if isinstance(entry, AdaptedRecipe):
            module, leaf = locate(model, name)
            if not entry.rank:
                inert.setdefault("their rank is 0", []).append(name)
            elif leaf != WEIGHT or row_of(module) is None:
                why = "their modules compute with the whole weight, without a low-rank path"
                inert.setdefault(why, []).append(name)
    return inert


def _guard(model: nn.Module, plan: Recipe) -> None:
    """Let the model refuse, or mark, what other libraries would do to it and its generated weights."""
    for name in plan.parameters:
        if isinstance(plan.parameters[plan.resolve(name)], SeededRecipe | AdaptedRecipe):
            module, leaf = locate(model, name)
            guard_parameters(module, leaf, name, of_torch=not isinstance(module, GeneratedLayer | AdaptedModule))
    mark_saved_folders(model)
    guard_resizing(model)


def _adapt(module: nn.Module, name: str, leaf: str, entry: AdaptedRecipe, dropout: float, persistent: bool) -> None:
    """Give a layer or another module an adapter for a parameter."""
    row = row_of(module) if leaf == WEIGHT else None
    unfit = batch_dims_of(entry) or entry.fan_in_fan_out != inputs_first(module) or changes_itself(module)
    if row is not None and unfit:
        raise ArchitectureError(
            f"{name}: a {type(module).__name__} does not support this adapter",
            hint="Load it with merge=True, or export it.",
        )
    taken = layers.AdapterLayer.taken_from(module) if row is not None else taken_from(module, leaf)
    if taken:
        raise ArchitectureError(
            f"the adapter of {name} would take the place of the layer's own {taken}",
            hint="Load it with merge=True, or export it.",
        )
    # Swapping the class keeps the module's identity, its hooks and every reference to it.
    if row is not None:
        module.__class__ = row.adapted
        _to_buffer(module, leaf, persistent)
        assert isinstance(module, layers.AdapterLayer)
        module.add_adapter(entry, dropout)
        return
    try:
        adapt(module, leaf, entry, persistent)
    except TypeError as fault:
        raise ArchitectureError(
            f"{name}: a {type(module).__name__} does not support an adapter: {fault}",
            hint="Load it with merge=True, or export it.",
        ) from fault


def carry(model: nn.Module, plan: Recipe) -> None:
    """Add the recipe to a model's state_dict, and check it when a checkpoint is loaded."""
    plan = plan.as_scaffolded()
    model.register_buffer(recipe.BUFFER, recipe_text(plan))
    notes(model).recipe = plan
    note_config(model, plan)
    model.register_load_state_dict_pre_hook(_refuse_other_recipe)  # type: ignore[no-untyped-call]
    model.register_state_dict_post_hook(_write_recipe)  # type: ignore[no-untyped-call]
    model.register_forward_pre_hook(OneScaffold())


def _set_source(module: nn.Module, leaf: str, source: rng.Source, plan: Recipe) -> None:
    notes(module).sources[leaf] = source
    if plan.rng.scaffolds:
        watch(module)


def recipe_text(plan: Recipe) -> Tensor:
    """Return the recipe as the buffer of a model that holds it."""
    return torch.frombuffer(bytearray(plan.to_bytes()), dtype=torch.uint8)


def locate(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Return the module that owns a parameter of the plain model, and the last part of the parameter's name."""
    *steps, leaf = name.split(".")
    module: nn.Module | None = model
    for step in steps:
        module = module._modules.get(step) if module is not None else None
    if module is None:  # not a child but an attribute, or not there, which torch's error says
        module = model.get_submodule(".".join(steps))
    return module, leaf


def where(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Return the module that owns a parameter of the plain model, and the last part of its present name."""
    module, leaf = locate(model, name)
    return module, held_as(module, leaf)


def place(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Replace a parameter, or the buffer in its place, by a tensor; parameters keep ``requires_grad``."""
    module, leaf = where(model, name)
    old = module._parameters.get(leaf)
    if old is not None:
        trains = old.requires_grad and tensor.is_floating_point()
        module._parameters[leaf] = nn.Parameter(tensor, requires_grad=trains)
    else:
        module._buffers[leaf] = tensor
    list_again(module)


def list_again(module: nn.Module) -> None:
    """Update the list of weights that a recurrent layer keeps. With parametrizations torch does so in its forward.

    A layer with adapters keeps none, and its weights cannot be read before all of their tensors are there.
    """
    if isinstance(module, AdaptedModule):
        return
    if isinstance(module, nn.RNNBase) and "parametrizations" not in module._modules:
        module._flat_weights = [getattr(module, name, None) for name in module._flat_weights_names]


def tie_all(model: nn.Module, plan: Recipe, persistent: bool = False) -> None:
    """Let every tied entry share the storage of its owner."""
    same = SameLayer(model, plan)
    for name, entry in plan.parameters.items():
        if isinstance(entry, TiedRecipe):
            _tie(model, plan, name, persistent, same)
            if isinstance(plan.parameters[plan.resolve(name)], AdaptedRecipe):
                leave_alone(model, {name, plan.resolve(name)})


def _tie(model: nn.Module, plan: Recipe, name: str, persistent: bool, same: SameLayer) -> None:
    owner = plan.resolve(name)
    module, leaf = locate(model, name)
    owner_module, owner_leaf = where(model, owner)
    if (module is owner_module and held_as(module, leaf) == owner_leaf) or generated_of(module, leaf) is not None:
        return
    if isinstance(owner_module, layers.AdaptedEmbedding) and isinstance(module, nn.Linear):
        if type(module) is nn.Linear:
            share(owner_module, module)
        elif not isinstance(module, TiedHead):
            raise refusal(name, owner)
    elif owner_leaf != owner.rpartition(".")[2]:
        # One layer under two names: the second must see the adapter, so it becomes the same module.
        same.require(name, owner)
        parent, _, own_name = name.rpartition(".")[0].rpartition(".")
        model.get_submodule(parent)._modules[own_name] = owner_module
        return
    shared = owner_module._parameters.get(owner_leaf)
    held = held_as(module, leaf)
    if shared is not None and held in module._parameters:
        module._parameters[held] = shared
        list_again(module)
        return
    if leaf in module._parameters:
        _to_buffer(module, leaf, persistent)
    module._buffers[held] = owner_module._buffers[owner_leaf] if shared is None else shared.detach()
    list_again(module)
    source = noted(owner_module).sources.get(owner.rpartition(".")[2])
    if source is not None:  # a cast makes two buffers of one, and both must follow the seed
        _set_source(module, leaf, source, plan)


def _to_buffer(module: nn.Module, leaf: str, persistent: bool) -> None:
    weight = module._parameters.pop(leaf, None)
    if weight is not None:
        module.register_buffer(held_as(module, leaf), weight.detach(), persistent=persistent)
        list_again(module)


def recipe_of(model: nn.Module) -> Recipe:
    """Return the recipe of a scaffolded model, also inside a wrapper such as DDP.

    Args:
        model: from scaffold(), load() or init_backbone_().

    Returns:
        The role of each parameter, and the seeds.

    Raises:
        CheckpointError: the model has no recipe.

    Source:
        spec/v1/recipe.md.

    Examples:
        >>> model = lottapack.load("model.lotta.safetensors")
        >>> lottapack.nn.recipe_of(model).parameters["0.weight"].rank
        2
    """
    require_module(model)
    for module in model.modules():
        if (plan := noted(module).recipe) is not None:
            return plan
    raise CheckpointError(
        "the model does not contain a lottapack recipe",
        hint="Call lottapack.scaffold(model, seed=..., rank=...) before training.",
    )


def is_scaffolded(model: nn.Module) -> bool:
    """Say whether scaffold() was called on the model or on a part of it.

    Args:
        model: any module.

    Returns:
        Whether it carries a recipe.

    Raises:
        ScaffoldError: ``model`` is not a module.

    Source:
        spec/v1/recipe.md.

    Examples:
        >>> lottapack.nn.is_scaffolded(nn.Linear(16, 32))
        False
    """
    require_module(model)
    return any(name.rpartition(".")[2] == recipe.BUFFER for name, _ in model.named_buffers())


def _use_own_names(module: nn.Module, state: dict[str, Any], prefix: str) -> None:
    """Rename tensors that save_pretrained() wrote under old names or split, as a resuming trainer loads them."""
    own = module.state_dict(keep_vars=True).keys()
    given = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if given.keys() - own:
        for name in given:
            del state[prefix + name]
        held = arch.family_of(module).as_in_model(module, given, own)
        state |= {prefix + name: tensor for name, tensor in held.items()}


def _write_recipe(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Write the present recipe, with later casts and unfreezing.

    Averages over buffers may also have changed its bytes. The state_dict shares the recipe with the model, like all
    tensors, so that what is written into the one shows in the other.
    """
    found = state.get(prefix + recipe.BUFFER)
    if isinstance(found, Tensor) and not found.is_meta:
        own = {
            key.removeprefix(prefix): value
            for key, value in state.items()
            if key.startswith(prefix) and isinstance(value, Tensor)
        }
        if lacks_values(module):
            text = torch.zeros_like(recipe_text(recipe_on(module)))  # so that nothing takes the rest for values
        else:
            require_own_scaffold(module)
            with torch.inference_mode(mode=False):  # or later writes to the model's buffer would be refused
                text = recipe_text(of_the_moment(module, recipe_on(module), own))
                if has_values(text) and has_values(found):
                    if not torch.equal(text, found.to(text.device)):
                        module._buffers[recipe.BUFFER] = state[prefix + recipe.BUFFER] = text.to(found.device)
                    return
        state[prefix + recipe.BUFFER] = text.to(found.device)


def generated_weights(model: nn.Module) -> list[Tensor]:
    """Return the generated weights of a model, or of one layer, that are in memory or on the meta device."""
    held = (
        getattr(module, held_as(module, leaf))
        for module in model.modules()
        for leaf in noted(module).sources
        if generated_of(module, leaf) is None
    )
    return list(held)


def refuse_without_values(module: nn.Module, *_: Any) -> None:
    """Raise CheckpointError for a module that was built on the meta device and got memory, but no values yet."""
    if lacks_values(module):
        raise CheckpointError(
            "the model was built on the meta device, and has not been given values since",
            hint="After to_empty(device=...), call model.load_state_dict() with a checkpoint, or fill the model from "
            "its pack with lottapack.distributed.fill_(). To train from the start, build and scaffold the model on "
            "its device.",
        )


def lacks_values(module: nn.Module) -> bool:
    """Return whether a module was built on the meta device and got memory, but no values yet."""
    if not noted(module).planned:
        return False
    return any(not tensor.is_meta for tensor in (*module.parameters(), *generated_weights(module)))


def require_given_values(model: nn.Module) -> None:
    """Do what refuse_without_values() does for every module of a model."""
    for module in model.modules():
        refuse_without_values(module)


def _refuse_other_recipe(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Refuse a checkpoint of another seed or rank, which would load its adapters on the wrong backbone."""
    name, ours = prefix + recipe.BUFFER, recipe_on(module)
    if name not in state:
        _use_own_names(module, state, prefix)
    if name not in state:
        return
    theirs = recipe.of_tensor(state[name])
    require_scaffold(
        theirs,
        module,
        "the checkpoint was trained on another scaffold",
        "Scaffold the model as it was for training, or pack the checkpoint and load the pack.",
    )
    module._buffers[recipe.BUFFER] = recipe_text(ours).to(module.get_buffer(recipe.BUFFER).device)
    _use_own_names(module, state, prefix)
    _warn_of_other_backbone(module, theirs, state)
    state[prefix + recipe.BUFFER] = module.get_buffer(recipe.BUFFER)  # the checkpoint's recipe is of another moment
    reconcile_backbone(module, ours, state, prefix)


def _warn_of_other_backbone(module: nn.Module, theirs: Recipe, state: Collection[str]) -> None:
    """Warn of weights that are those of the seed in this model but not in the checkpoint, or the reverse."""
    generated = {name for name, entry in theirs.parameters.items() if isinstance(entry, SeededRecipe | AdaptedRecipe)}
    changed, ours = generated & (theirs.changed or {}).keys(), changed_backbones(module, theirs, state).keys()
    for names, who, then in (
        (changed - ours, "the checkpoint was written on", "The model keeps the backbone of the seed"),
        (
            ours - changed,
            "this model has, as after to_empty() or a control,",
            "For that of the seed, call lottapack.nn.regenerate_(model)",
        ),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            warnings.warn(
                f"{who} another backbone than its seed generates, and the checkpoint does not hold it: "
                f"{', '.join(sorted(names)[:3])}{more}. {then}",
                BackboneChangedWarning,
                stacklevel=2,
            )
