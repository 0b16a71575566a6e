"""Each process of a distributed job makes its own part of a model, and nothing goes over the network.

``load`` makes distributed tensors at once. For models that you shard yourself (FSDP2, tensor parallelism): call
``load_meta``, then ``fully_shard`` or ``parallelize_module``, then ``fill_``.
"""

from collections.abc import Iterable
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lottapack.device import resolve
from lottapack.errors import PlacementError
from lottapack.format import dtypes, recipe
from lottapack.format.packfile import PackFile
from lottapack.limits import check_memory
from lottapack.loading.filling import fill_
from lottapack.loading.placements import Chooser, check_device, part_of
from lottapack.loading.reading import Reading
from lottapack.loading.rebuilding import computed_by, empty_model, give_computed, rebuilt_tensors
from lottapack.nn.attach import place, tie_all, where
from lottapack.nn.local import exclude_from_ddp

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


__all__ = ["exclude_from_ddp", "fill_", "load", "load_meta"]


@torch.inference_mode(False)
@torch.no_grad()
def load(
    path: str | PathLike[str],
    mesh: "DeviceMesh",
    placements: Any,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    merge: bool = False,
    scaffold: str | None = None,
    check_fingerprints: bool = False,
    max_bytes: int | None = None,
    allow: str | Iterable[str] = (),
    require_signature: str | PathLike[str] | None = None,
) -> nn.Module:
    """Rebuild the model of a pack as distributed tensors, in evaluation mode, without communication.

    Each process makes its own part of every parameter, backbone and stored buffer.

    Args:
        path: as in ``lottapack.load``, as are the keywords after ``placements``.
        mesh: the processes and devices that share the model.
        placements: where each tensor goes: one placement, or one for each dimension of the mesh, for all tensors; or a
            mapping of names and patterns to such; or a function of name and shape. Other tensors are replicated.
        device: the kind of device of this process's part.
        dtype: the dtype of floating tensors, or its name; None keeps the recorded one.
        merge: return the plain model with merged weights.
        scaffold: which of the pack's scaffolds to use.
        check_fingerprints: compare every rebuilt tensor with its fingerprint.
        max_bytes: the most memory that this process's part may take.
        allow: packages or modules whose code you trust.
        require_signature: a public key in PEM.

    Raises:
        PlacementError: the mesh or a placement does not fit a tensor, the processes or the device. And what
            ``lottapack.load`` raises.

    Example:
        >>> model = lottapack.distributed.load("model.lotta.safetensors", mesh, Shard(0), device="cuda")
    """
    target = resolve(device)
    if dtype is not None:
        dtype = dtypes.torch_dtype(dtypes.floating_name(dtype))
    reading = Reading(scaffold, max_bytes, allow, require_signature, check_fingerprints)
    with reading.open(path) as pack:
        return _on_mesh(pack, mesh, Chooser(placements, mesh), target, dtype, merge, reading)


def _on_mesh(
    pack: PackFile,
    mesh: "DeviceMesh",
    chooser: Chooser,
    device: torch.device,
    dtype: torch.dtype | None,
    merge: bool,
    reading: Reading,
) -> nn.Module:
    """The model of an opened pack, its tensors distributed."""
    from torch.distributed.tensor import DTensor

    check_device(mesh, device)
    model, plan = empty_model(pack, merge=merge, max_bytes=reading.max_bytes)
    planned, needed = [], 0
    for entry in rebuilt_tensors(pack, device, merge=merge, check=reading.check_fingerprints):
        chosen = chooser.placements(entry.name, entry.shape)
        part = part_of(entry.name, entry.shape, mesh, chosen)
        planned.append((entry, chosen, part))
        wanted = entry.dtype if dtype is None or not entry.dtype.is_floating_point else dtype
        needed += part.numel * wanted.itemsize
    chooser.require_used()
    check_memory(str(pack.path), needed, reading.max_bytes, device)
    for entry, chosen, part in planned:
        wanted = entry.dtype if dtype is None or not entry.dtype.is_floating_point else dtype
        made = entry.make(part).to(device).to(wanted)
        stride = torch.empty(entry.shape, dtype=entry.dtype, device="meta").stride()
        tensor = DTensor.from_local(
            made, mesh, chosen, run_check=False, shape=torch.Size(entry.shape), stride=tuple(stride)
        )
        place(model, entry.name, tensor)
    tie_all(model, plan)
    computed = computed_by(model)
    if dtype is not None:
        computed |= {name: computed[name].to(dtype) for name in pack.descriptor.computed or {}}
    give_computed(model, computed, device)
    return exclude_from_ddp(model).eval()


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
    """The model of a pack on the meta device, in evaluation mode, to be sharded and then filled by fill_().

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
    with Reading(scaffold, allow=allow).open(path) as pack:
        model, plan = empty_model(pack, merge=merge)
        for one in rebuilt_tensors(pack, torch.device("meta"), merge=merge, check=False):
            place(model, one.name, torch.empty(one.shape, dtype=one.dtype, device="meta"))
    tie_all(model, plan)
    if backbone == "parameter" and not merge:
        shared: dict[int, tuple[Tensor, nn.Parameter]] = {}  # the tensors too, so that no id is given out twice
        for name, entry in plan.parameters.items():
            if isinstance(entry, recipe.SeededRecipe | recipe.AdaptedRecipe | recipe.TiedRecipe):
                module, leaf = where(model, name)
                weight = module._buffers.get(leaf)
                if weight is not None and weight.is_meta:
                    del module._buffers[leaf]
                    module._non_persistent_buffers_set.discard(leaf)
                    made = shared.setdefault(id(weight), (weight, nn.Parameter(weight, requires_grad=False)))
                    module.register_parameter(leaf, made[1])
    return exclude_from_ddp(model).eval()
