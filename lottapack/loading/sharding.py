"""Each process of a distributed job makes its own part of a model, and nothing goes over the network.

load() with a mesh makes distributed tensors at once. For models that are sharded by their user (FSDP2, tensor
parallelism): load_meta(), then fully_shard() or parallelize_module(), then fill_().
"""

from collections.abc import Iterable
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lottapack.arch.trust import allowing
from lottapack.errors import PlacementError
from lottapack.format import recipe
from lottapack.format.packfile import PackFile, open_pack
from lottapack.limits import check_memory
from lottapack.loading.placements import Chooser, check_device, part_of
from lottapack.loading.rebuilding import computed_by, empty_model, give_computed, rebuilt_tensors
from lottapack.nn.attach import place, tie_all, where
from lottapack.nn.local import exclude_from_ddp
from lottapack.registry.local import local

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


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
    model, plan = empty_model(pack, merge=merge, max_bytes=max_bytes)
    chooser = Chooser(placements, mesh)
    planned, needed = [], 0
    for entry in rebuilt_tensors(pack, device, merge=merge, check=check):
        chosen = chooser.placements(entry.name, entry.shape)
        part = part_of(entry.name, entry.shape, mesh, chosen)
        planned.append((entry, chosen, part))
        wanted = entry.dtype if dtype is None or not entry.dtype.is_floating_point else dtype
        needed += part.numel * wanted.itemsize
    chooser.require_used()
    check_memory(str(pack.path), needed, max_bytes, device)
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
    with allowing(allow), open_pack(local(path), scaffold) as pack:
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
