"""fill_(): a model that is there gets memory where it has none, and every value from a pack, in place."""

from collections.abc import Iterable
from os import PathLike
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lottapack.device import resolve
from lottapack.errors import ArchitectureError, PlacementError
from lottapack.format import recipe
from lottapack.format.names import parameter_of
from lottapack.format.packfile import PackFile
from lottapack.limits import check_memory
from lottapack.loading.placements import check_device
from lottapack.loading.reading import Reading
from lottapack.loading.rebuilding import (
    RebuiltTensor,
    computed_by,
    copy_part,
    empty_model,
    give_computed,
    held_part,
    local_tensor,
    plain_name,
    rebuilt_tensors,
)
from lottapack.nn.attach import is_scaffolded, list_again, recipe_of
from lottapack.nn.switching import active_scaffold, note_scaffold
from lottapack.weights.parts import Part


@torch.inference_mode(False)
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
    nothing else, goes over the network. The bits are those of load(), and what is tied there is tied here. Returns the
    model, in the mode (training or evaluation) that it was in.

    Args:
        model: from load_meta(), or a plain model of the same architecture (which gets the merged weights); sharded or
            not. What is on the meta device gets memory first.
        path: as in load().
        device: where a model on the meta device gets its memory; by default where its mesh is, else the CPU.
        scaffold: the one that the model is on afterwards; by default the one that it is on.
        check_fingerprints: as in load(). A fingerprint needs the whole tensor: it is generated once more, in pieces.
        max_bytes: the most that this process may need; by default the device's free memory.
        allow: as in load().

    Raises:
        ArchitectureError: the model is another than packed, or has a tensor without memory that the pack cannot fill;
        names the tensor. PlacementError: a placement that a weight cannot have, a mesh without this process, or tied
        weights that are trained and were sharded apart. Else as load().
    """
    merge = not is_scaffolded(model)
    if scaffold is None and not merge:
        scaffold = active_scaffold(model)
    with Reading(scaffold, allow=allow).open(path) as pack:
        source, plan = empty_model(pack, merge=merge)
        if not merge and not recipe_of(model).is_scaffold_of(plan):
            raise ArchitectureError("the model was made from another pack", hint="Make it from this one: load_meta().")
        slots = {parameter_of(name, plan.parameters): slot for name, slot in _slots(model).items()}
        target = _target(slots, device)
        tensors = {one.name: one for one in rebuilt_tensors(pack, target, merge=merge, check=check_fingerprints)}
        ties = {
            name: plan.resolve(name)
            for name, entry in plan.parameters.items()
            if isinstance(entry, recipe.TiedRecipe) and plan.resolve(name) in tensors
        }
        wanted = tensors | {name: tensors[owner] for name, owner in ties.items()}
        parts = {name: _part(pack, name, one, slots) for name, one in wanted.items()}
        _require_apart(slots, tensors)
        computed = computed_by(source)
        _require_known(slots, {*wanted, *computed})
        _give_memory(model, slots, target, str(path), max_bytes)
        for name, owner in ties.items():
            _tie(model, slots, name, owner)
        done: set[int] = set()
        for name, one in wanted.items():
            tensor = slots[name].tensor
            if id(tensor) not in done:
                copy_part(tensor, one.make(parts[name]))
                done.add(id(tensor))
    give_computed(model, computed, target)
    if not merge:
        note_scaffold(model, pack.scaffold)
    return model


class _Slot(NamedTuple):
    """Where a module holds a parameter or buffer."""

    module: nn.Module
    leaf: str

    @property
    def tensor(self) -> Tensor:
        """What lies there now."""
        parameter = self.module._parameters.get(self.leaf)
        found = self.module._buffers[self.leaf] if parameter is None else parameter
        assert found is not None
        return found

    def put(self, tensor: Tensor) -> None:
        """Let another lie there, of the same kind."""
        if isinstance(tensor, nn.Parameter):
            self.module._parameters[self.leaf] = tensor
        else:
            self.module._buffers[self.leaf] = tensor
        list_again(self.module)


def _slots(model: nn.Module) -> dict[str, _Slot]:
    """Every slot that holds a tensor, by its name without wrappers; one module may be there under several names."""
    return {
        plain_name(f"{prefix}.{leaf}" if prefix else leaf): _Slot(module, leaf)
        for prefix, module in model.named_modules(remove_duplicate=False)
        for leaf, tensor in [*module._parameters.items(), *module._buffers.items()]
        if tensor is not None
    }


def _target(slots: dict[str, _Slot], device: str | torch.device | None) -> torch.device:
    tensors = [slot.tensor for slot in slots.values()]
    meshes = [tensor.device_mesh for tensor in tensors if hasattr(tensor, "device_mesh")]
    if device is None:
        here = [tensor.device for tensor in tensors if not tensor.is_meta]
        return resolve(meshes[0].device_type if meshes else here[0] if here else "cpu")
    found = resolve(device)
    for mesh in meshes:
        check_device(mesh, found)
    return found


def _part(pack: PackFile, name: str, due: RebuiltTensor, slots: dict[str, _Slot]) -> Part:
    """Which part of a tensor is held here. Raises ArchitectureError where the model has another tensor."""
    tensor = slots[name].tensor if name in slots else None
    if tensor is None or tuple(tensor.shape) != due.shape:
        has = "no such tensor" if tensor is None else f"one of shape {tuple(tensor.shape)}"
        raise ArchitectureError(
            f"{pack.path} holds {name} of shape {due.shape}, and the model has {has}",
            hint="Make the model with load_meta() of this pack, or with the configuration that was packed.",
        )
    if tensor.is_floating_point() != due.dtype.is_floating_point:
        raise ArchitectureError(
            f"{pack.path} holds {name} in {due.dtype}, and the model has it in {tensor.dtype}",
            hint="Make the model with load_meta() of this pack, or with the configuration that was packed.",
        )
    return held_part(name, tensor)


def _require_apart(slots: dict[str, _Slot], tensors: Iterable[str]) -> None:
    """Raise ArchitectureError where one tensor of the model would get two values."""
    seen: dict[int, str] = {}
    for name in tensors:
        other = seen.setdefault(id(slots[name].tensor), name)
        if other != name:
            raise ArchitectureError(
                f"the model ties {name} to {other}, and the pack holds a tensor for each",
                hint="Make the model with load_meta() of this pack, or with the configuration that was packed.",
            )


def _require_known(slots: dict[str, _Slot], known: set[str]) -> None:
    """Raise ArchitectureError for a tensor without memory that would stay without values."""
    values = {id(slots[name].tensor) for name in known & slots.keys()}
    for name, slot in slots.items():
        if slot.tensor.is_meta and id(slot.tensor) not in values:
            raise ArchitectureError(
                f"{name} is on the meta device, and the pack holds no such tensor",
                hint="Make the model with load_meta() of this pack, or give this tensor its values before fill_().",
            )


def _give_memory(
    model: nn.Module, slots: dict[str, _Slot], device: torch.device, label: str, max_bytes: int | None
) -> None:
    """Give what is on the meta device memory, and leave the rest. What was one tensor is one afterwards."""
    before = {name: slot.tensor for name, slot in slots.items()}  # the tensors too, so that no id is given out twice
    missing = {id(tensor): tensor for tensor in before.values() if tensor.is_meta}
    if not missing:
        return
    needed = sum(local_tensor(tensor).numel() * tensor.element_size() for tensor in missing.values())
    check_memory(label, needed, max_bytes, device)
    made = {number: torch.empty_like(tensor, device=device) for number, tensor in missing.items()}

    def give(tensor: Tensor) -> Tensor:
        if tensor.is_meta:
            return made[id(tensor)]
        return tensor.detach() if isinstance(tensor, nn.Parameter) else tensor

    model._apply(give)  # type: ignore[no-untyped-call]
    first: dict[int, Tensor] = {}
    for name, slot in slots.items():
        shared = first.setdefault(id(before[name]), slot.tensor)
        if shared is not slot.tensor:
            slot.put(shared)


def _tie(model: nn.Module, slots: dict[str, _Slot], name: str, owner: str) -> None:
    """Let what load() ties be one tensor here too. Raises PlacementError for what is trained and cannot be.

    Frozen weights that were sharded apart are filled alike, which is the same.
    """
    copy: Any = slots[name].tensor
    original: Any = slots[owner].tensor
    if copy is original or not copy.is_floating_point():
        return
    alike = isinstance(copy, nn.Parameter) == isinstance(original, nn.Parameter) and copy.dtype == original.dtype
    sharded = [(one.device_mesh, one.placements) if hasattr(one, "device_mesh") else None for one in (copy, original)]
    managed = any(base.__name__ == "FSDPModule" for module in model.modules() for base in type(module).__mro__)
    if alike and sharded[0] == sharded[1] and not (managed and sharded[0]):
        slots[name].put(original)
    elif copy.requires_grad or original.requires_grad:
        raise PlacementError(
            f"{name} is tied to {owner} in the pack, and the model holds two tensors that would be trained apart",
            hint="Give both the same placements, and one fully_shard() that holds both. To use the model without "
            "training these, call requires_grad_(False) on both first.",
        )
