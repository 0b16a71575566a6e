"""Each process of a distributed job makes its own part of a model, and nothing goes over the network.

load() with a mesh makes distributed tensors at once. For models that are sharded by their user (FSDP2, tensor
parallelism): load_meta(), then fully_shard() or parallelize_module(), then fill_().
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lottapack import arch
from lottapack.arch.skeleton import computed_buffers
from lottapack.arch.trust import allowing
from lottapack.device import resolve
from lottapack.errors import ArchitectureError, PlacementError
from lottapack.format import dtypes, recipe
from lottapack.format.descriptor import Adapted, Seeded, Tied, adapter_prefix
from lottapack.format.packfile import PackFile, open_pack
from lottapack.limits import check_memory
from lottapack.loading.placements import Chooser, check_device, part_of
from lottapack.nn.attach import attach, is_scaffolded, locate, place, recipe_of, tie_all
from lottapack.nn.select import entries_of
from lottapack.registry.local import local
from lottapack.weights.part_tensors import PlainTensor, stored_part
from lottapack.weights.parts import Part, whole
from lottapack.weights.rebuild import skeleton

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module")
"""What torch.compile and checkpoint_wrapper put into names."""


@dataclass(frozen=True)
class _Entry:
    """A tensor of a rebuilt model. ``make(part)``: that part, in the recorded dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[Part], Tensor]


def _entries(pack: PackFile, device: torch.device, *, merge: bool, check: bool) -> Iterator[_Entry]:
    for name, entry in pack.descriptor.parameters.items():
        if isinstance(entry, Tied):
            continue
        found = PlainTensor(pack, name, device)
        if check and isinstance(entry, Seeded | Adapted):
            found.check_fingerprint()
        if merge or not isinstance(entry, Adapted):
            yield _Entry(name, found.shape, found.dtype, found.part)
            continue
        yield _Entry(name, found.shape, found.dtype, found.backbone)
        for last in entry.adapter.tensors():
            tensor = adapter_prefix(name) + last
            dtype, shape = pack.form(tensor)
            yield _Entry(tensor, shape, dtypes.torch_dtype(dtype), partial(stored_part, pack, tensor))


def load_on_mesh(
    pack: PackFile,
    mesh: "DeviceMesh",
    placements: Any,
    device: torch.device,
    dtype: torch.dtype | None,
    max_bytes: int | None,
    *,
    merge: bool,
    check: bool,
) -> nn.Module:
    """The model of a pack whose parameters, backbones and stored buffers are distributed tensors (see load())."""
    from torch.distributed.tensor import DTensor

    check_device(mesh, device)
    model, plan = _empty(pack, merge=merge)
    chooser = Chooser(placements, mesh)
    planned, needed = [], 0
    for entry in _entries(pack, device, merge=merge, check=check):
        chosen = chooser.placements(entry.name, entry.shape)
        part = part_of(entry.name, entry.shape, mesh, chosen)
        planned.append((entry, chosen, part))
        wanted = entry.dtype if dtype is None or not entry.dtype.is_floating_point else dtype
        needed += part.numel * wanted.itemsize
    chooser.require_used()
    check_memory(str(pack.path), needed, max_bytes, device)
    for entry, chosen, part in planned:
        made = entry.make(part).to(device)
        if dtype is not None and made.is_floating_point():
            made = made.to(dtype)
        stride = torch.empty(entry.shape, dtype=entry.dtype, device="meta").stride()
        tensor = DTensor.from_local(
            made, mesh, chosen, run_check=False, shape=torch.Size(entry.shape), stride=tuple(stride)
        )
        place(*locate(model, entry.name), tensor)
    tie_all(model, plan)
    _give_computed(model, model, device)
    return model.eval()


@torch.inference_mode(False)
@torch.no_grad()
def load_meta(
    path: str | PathLike[str],
    *,
    merge: bool = False,
    backbone: Literal["buffer", "parameter"] = "buffer",
    scaffold: str | None = None,
    allow: str | Iterable[str] = (),
) -> nn.Module:
    """The model of a pack on the meta device, to be sharded and then filled by fill_().

    Args:
        path: as in load().
        merge: the plain model; otherwise layers have adapters.
        backbone: what a generated weight is. FSDP2 shards parameters only: a ``"buffer"`` is whole in every process,
            which takes memory and no network ever; a frozen ``"parameter"`` is sharded and gathered as all others, and
            lies in checkpoints with them.
        scaffold: as in load().
        allow: as in load().

    Raises as load() does.
    """
    if backbone not in ("buffer", "parameter"):
        raise PlacementError(f"backbone={backbone!r}", hint='Choose "buffer" or "parameter".')
    with allowing(allow), open_pack(local(path), scaffold) as pack:
        model, plan = _empty(pack, merge=merge)
    tie_all(model, plan)
    if backbone == "parameter" and not merge:
        shared: dict[int, tuple[Tensor, nn.Parameter]] = {}  # the tensors too, so that no id is given out twice
        for name, entry in plan.parameters.items():
            if isinstance(entry, recipe.SeededRecipe | recipe.AdaptedRecipe | recipe.TiedRecipe):
                module, leaf = locate(model, name)
                weight = module._buffers.get(leaf)
                if weight is not None and weight.is_meta:
                    del module._buffers[leaf]
                    module._non_persistent_buffers_set.discard(leaf)
                    made = shared.setdefault(id(weight), (weight, nn.Parameter(weight, requires_grad=False)))
                    module.register_parameter(leaf, made[1])
    return model


@torch.no_grad()
def fill_(
    model: nn.Module,
    path: str | PathLike[str],
    *,
    device: str | torch.device | None = None,
    scaffold: str | None = None,
    check_fingerprints: bool = False,
    max_bytes: int | None = None,
    allow: str | Iterable[str] = (),
) -> nn.Module:
    """Fill a model's parameters and buffers from a pack, in place: of distributed tensors only the part held here.

    Each process calls it for itself: parts are generated or read from its own copy of the pack, and no weight, and
    nothing else, goes over the network. The bits are those of load(). Returns the model.

    Args:
        model: from load_meta(), or a plain model of the same architecture (which gets the merged weights); sharded or
            not. What is on the meta device gets memory first.
        path: as in load().
        device: where a model on the meta device gets its memory; by default where its mesh is, else the CPU.
        scaffold: as in load().
        check_fingerprints: as in load(). A fingerprint needs the whole tensor: it is generated once more, in pieces.
        max_bytes: the most that this process may need; by default the device's free memory.
        allow: as in load().

    Raises:
        ArchitectureError: the model is another than packed; names the tensor. PlacementError: a placement that a weight
        cannot have, or a mesh without this process. Else as load().
    """
    with allowing(allow), open_pack(local(path), scaffold) as pack:
        source, plan = _empty(pack, merge=not is_scaffolded(model))
        if is_scaffolded(model) and recipe_of(model) != plan:
            raise ArchitectureError("the model was made from another pack", hint="Make it from this one: load_meta().")
        held = _held(model)
        target = _target(held, device)
        entries = list(_entries(pack, target, merge=not is_scaffolded(model), check=check_fingerprints))
        parts = _parts(pack, entries, held)
        if any(tensor.is_meta for tensor in held.values()):
            check_memory(str(path), _local_bytes(model), max_bytes, target)
            kept = [(module, leaf, b) for module, leaf, b in _buffers(model) if not b.is_meta]
            model.to_empty(device=target)
            for module, leaf, buffer in kept:
                module._buffers[leaf] = buffer.to(target)
            held = _held(model)
        for entry in entries:
            tensor = held[entry.name]
            memory = tensor.to_local() if hasattr(tensor, "to_local") else tensor
            memory.copy_(entry.make(parts[entry.name]).to(memory.device))
    _give_computed(model, source, target)
    return model


def _empty(pack: PackFile, *, merge: bool) -> tuple[nn.Module, recipe.Recipe]:
    model = skeleton(pack.descriptor)
    groups = {entry.name: entry.group for entry in entries_of(model, arch.family_of(model).heads(model))}
    plan = recipe.of_descriptor(pack.whole, pack.tables, groups)
    if not merge:
        attach(model, plan, scaffold=pack.scaffold)
    return model, plan


def _plain_name(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _held(model: nn.Module) -> dict[str, Tensor]:
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {_plain_name(name): tensor for name, tensor in named}


def _buffers(model: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    for module in model.modules():
        for leaf, buffer in module._buffers.items():
            if buffer is not None:
                yield module, leaf, buffer


def _target(held: dict[str, Tensor], device: str | torch.device | None) -> torch.device:
    meshes = [tensor.device_mesh for tensor in held.values() if hasattr(tensor, "device_mesh")]
    if device is None:
        here = [tensor.device for tensor in held.values() if not tensor.is_meta]
        return resolve(meshes[0].device_type if meshes else here[0] if here else "cpu")
    found = resolve(device)
    for mesh in meshes:
        check_device(mesh, found)
    return found


def _parts(pack: PackFile, entries: list[_Entry], held: dict[str, Tensor]) -> dict[str, Part]:
    """Which part of each tensor is held here. Raises ArchitectureError where the model has other tensors."""
    from torch.distributed.tensor import DTensor

    parts = {}
    for entry in entries:
        tensor = held.get(entry.name)
        if tensor is None or tuple(tensor.shape) != entry.shape:
            has = "no such tensor" if tensor is None else f"one of shape {tuple(tensor.shape)}"
            raise ArchitectureError(
                f"{pack.path} holds {entry.name} of shape {entry.shape}, and the model has {has}",
                hint="Make the model with load_meta() of this pack, or with the configuration that was packed.",
            )
        if isinstance(tensor, DTensor):
            part = part_of(entry.name, entry.shape, tensor.device_mesh, tensor.placements)
            if tuple(tensor.to_local().shape) != part.shape:
                raise PlacementError(
                    f"{entry.name}: the shard of {tensor.placements} here has the shape "
                    f"{tuple(tensor.to_local().shape)}, not {part.shape}",
                    hint="Shard it with fully_shard(), parallelize_module() or distribute_tensor().",
                )
        else:
            part = whole(entry.shape)
        parts[entry.name] = part
    return parts


def _local_bytes(model: nn.Module) -> int:
    seen = {id(tensor): tensor for tensor in _held(model).values()}
    local_ones = (t.to_local() if hasattr(t, "to_local") else t for t in seen.values())
    return sum(tensor.numel() * tensor.element_size() for tensor in local_ones)


def _give_computed(model: nn.Module, source: nn.Module, device: torch.device) -> None:
    """Give a model the buffers that only its constructor can compute, and the recipe, from one that has them."""
    modules = {_plain_name(name): module for name, module in model.named_modules(remove_duplicate=False)}
    for name, buffer in [*computed_buffers(source), *source.named_buffers()]:
        prefix, _, leaf = name.rpartition(".")
        computed = leaf in source.get_submodule(prefix)._non_persistent_buffers_set or leaf == recipe.BUFFER
        if computed and not buffer.is_meta and not hasattr(buffer, "device_mesh") and prefix in modules:
            modules[prefix]._buffers[leaf] = buffer.to(device)
