"""A model runs and trains on one scaffold: in all processes, and after tensors were written into its own."""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch._C._functorch import (
    get_unwrapped,
    is_functorch_wrapped_tensor,
    maybe_get_bdim,
    peek_interpreter_stack,
)
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from lottapack.arch.noted import noted, notes, recipe_on
from lottapack.arch.said import has_values
from lottapack.errors import CheckpointError, ScaffoldError, UnsupportedError
from lottapack.format import canonical, recipe
from lottapack.format.descriptor import Architecture
from lottapack.format.recipe import AdaptedRecipe, Recipe, SeededRecipe
from lottapack.nn.moment import as_configured

_SEED = 8
"""Bytes of the seed in what processes exchange, after the digest."""


class OneScaffold:
    """The forward pre-hook that looks at the scaffolds of a model and of the processes that train it.

    torch.jit.script would compile it, and asks for its name first.
    """

    def __call__(self, model: nn.Module, *_: Any) -> None:
        """Compare them before the first step of a training, and see that the model's tensors are of its scaffold."""
        require_one_scaffold(model)
        if not torch.compiler.is_compiling():
            require_own_scaffold(model)

    @property
    def __name__(self) -> str:
        raise UnsupportedError(
            "torch.jit.script cannot compile a model that has a scaffold",
            hint="Use torch.compile or torch.export, or take the model that load(..., merge=True) returns.",
        )


def require_one_scaffold(model: nn.Module) -> None:
    """Raise ScaffoldError in the first step of a training whose processes have different scaffolds, in all of them.

    The processes are those of DDP or of a sharded model, which exchange 40 bytes here. They would
    otherwise average the gradients of different models. Each may be on any of the scaffolds that all have.
    """
    if torch.compiler.is_compiling() or not torch.distributed.is_available():
        return
    if not torch.distributed.is_initialized() or noted(model).compared or not _trains(model):
        return
    for group, device in _groups(model):
        _compare(recipe_on(model), group, device)
        notes(model).compared = True


def require_own_scaffold(model: nn.Module) -> None:
    """Raise CheckpointError for a model into whose tensors a checkpoint of another scaffold was written.

    ``dcp.load(model.state_dict())`` writes into the model's tensors without load_state_dict(). Its recipe is one of
    them, and tells. It is read after it was written to, and passed over if averages of models changed its bytes.
    """
    held = model._buffers.get(recipe.BUFFER)
    if held is not None and peek_interpreter_stack():
        _require_own_in_transforms(model, held)
        return
    if held is None or not has_values(held) or held.is_inference():
        return
    state = held.untyped_storage()._cdata, held._version
    if noted(model).recipe_read == state:
        return
    try:
        theirs = recipe.of_tensor(held)
    except CheckpointError:
        theirs = recipe_on(model)
    require_scaffold(
        theirs,
        model,
        "a checkpoint of another scaffold was written into the model",
        "Build the model again, scaffold it as it was for training, and load the checkpoint into that.",
    )
    notes(model).recipe_read = state


def _require_own_in_transforms(model: nn.Module, held: Tensor) -> None:
    """Raise CheckpointError for a virtual model that torch.func.vmap gives tensors of another scaffold, as stacked.

    A weight in memory is among these tensors; a virtual one would be that of the model itself.
    """
    if not is_functorch_wrapped_tensor(held) or not any(noted(part).virtual for part in model.modules()):
        return
    with temporarily_clear_interpreter_stack():
        while is_functorch_wrapped_tensor(held):
            dim = maybe_get_bdim(held)
            held = get_unwrapped(held)
            held = held if dim < 0 else held.movedim(dim, 0)
        rows = held.cpu().reshape(-1, held.shape[-1]).numpy() if has_values(held) else ()
    for text in sorted({row.tobytes() for row in rows}):
        require_scaffold(
            recipe.parse(text),
            model,
            "torch.func gives the model the tensors of another scaffold, and its virtual weights follow from its own",
            'Scaffold or load the models with backbone="materialised", whose weights are among these tensors.',
        )


def require_scaffold(theirs: Recipe, model: nn.Module, what: str, hint: str) -> None:
    """Raise CheckpointError, which begins with ``what``, if a recipe and a model have different scaffolds."""
    ours = recipe_on(model)
    if theirs.is_scaffold_of(ours) or theirs.is_scaffold_of(as_configured(model, ours)):
        return
    why = f"seed {theirs.seed}, this model {ours.seed}" if theirs.seed != ours.seed else "another plan of roles"
    if theirs.seed == ours.seed and theirs.seeds != ours.seeds:
        why = f"scaffolds {theirs.seeds}, this model {ours.seeds}"
    elif theirs.seed == ours.seed and theirs.architecture != ours.architecture:
        why = f"another {_first_difference(theirs.architecture, ours.architecture)}"
    raise CheckpointError(f"{what}: {why}", hint=hint)


def _first_difference(theirs: Architecture, ours: Architecture) -> str:
    if theirs.class_ != ours.class_:
        return f"model, a {theirs.class_}"
    old, new = ours.config, theirs.config
    return f"configuration: {', '.join(sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)))}"


def _trains(model: nn.Module) -> bool:
    """Return whether this is a pass of a training on generated weights: only then do all processes take part."""
    return model.training and torch.is_grad_enabled() and any(noted(part).sources for part in model.modules())


def _groups(model: nn.Module) -> Iterator[tuple[Any, torch.device]]:
    """Yield the groups of processes that train the model together, and the device of what they send."""
    mesh = next((one.device_mesh for one in model.parameters() if hasattr(one, "device_mesh")), _mesh_of_fsdp(model))
    if mesh is not None:
        yield from ((mesh.get_group(dim), torch.device(mesh.device_type)) for dim in range(mesh.ndim))
        return
    wrapper: Any = nn.parallel.DistributedDataParallel._active_ddp_module
    if wrapper is not None and wrapper.require_backward_grad_sync and not wrapper._join_config.enable:
        yield wrapper.process_group, next(model.parameters()).device


def _mesh_of_fsdp(model: nn.Module) -> Any:
    """Return the mesh over which FSDP2 shards a model, whose parameters are whole during a forward pass, or None."""
    for part in model.modules():
        state: Any = getattr(part, "_get_fsdp_state", lambda: None)()
        parameters = getattr(state, "_fsdp_param_group", None)
        if parameters is not None:
            return parameters.mesh_info.mesh
    return None


def _compare(plan: Recipe, group: Any, device: torch.device) -> None:
    ours = torch.frombuffer(bytearray(_digest(plan)), dtype=torch.uint8).to(device)
    theirs = [torch.empty_like(ours) for _ in range(torch.distributed.get_world_size(group))]
    torch.distributed.all_gather(theirs, ours, group=group)
    given = [bytes(one.tolist()) for one in theirs]
    if len(set(given)) == 1:
        return
    seeds = [int.from_bytes(one[-_SEED:], "big") for one in given]
    why = f"seeds {seeds[:8]} in the order of processes" if len(set(seeds)) > 1 else "other roles or settings"
    raise ScaffoldError(
        f"the processes that train this model have different scaffolds: {why}",
        hint="Call scaffold() with the same arguments in every process, or load() the same pack. A seed for each "
        "process, as for data and dropout, belongs to torch.manual_seed().",
    )


def _digest(plan: Recipe) -> bytes:
    """Return the digest of what is generated, and the seed."""
    generated = {
        name: msgspec.to_builtins(entry)
        for name, entry in plan.parameters.items()
        if isinstance(entry, SeededRecipe | AdaptedRecipe)
    }
    content = canonical.dumps({"rng": msgspec.to_builtins(plan.rng), "parameters": generated})
    return hashlib.sha256(content).digest() + plan.seed.to_bytes(_SEED, "big")
