"""Turn a mesh and placements of torch.distributed.tensor into the local part of a tensor."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottapack.errors import PlacementError
from lottapack.nn.select import matches
from lottapack.weights.parts import Part, Ranges, chunk, join, whole

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Placement


def part_of(name: str, shape: tuple[int, ...], mesh: "DeviceMesh", placements: "Sequence[Placement]") -> Part:
    """Return the part of a tensor that this process holds. Dimensions of the mesh apply in order, as in DTensor.

    A dimension is cut as by torch.chunk, so the last shards may be smaller or empty. A ``_StridedShard`` (what FSDP2
    makes of a dimension that tensor parallelism has sharded) takes its chunk of each of ``split_factor`` chunks. Raises
    PlacementError.
    """
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.placement_types import _StridedShard

    coordinate = mesh.get_coordinate()
    if coordinate is None:
        raise PlacementError(
            f"{name}: this process does not belong to the mesh {tuple(mesh.shape)}",
            hint="Load only in the processes of the mesh, or create a mesh of all with init_device_mesh().",
        )
    if len(placements) != mesh.ndim:
        raise PlacementError(
            f"{name}: got {len(placements)} placements for a mesh of {mesh.ndim} dimensions, {tuple(mesh.shape)}",
            hint="Pass one placement for each dimension of the mesh, such as (Replicate(), Shard(0)).",
        )
    part = whole(shape)
    for axis, placement in enumerate(placements):
        count, number = mesh.size(axis), coordinate[axis]
        if isinstance(placement, Replicate):
            continue
        if not isinstance(placement, Shard | _StridedShard):
            raise PlacementError(
                f"{name}: the placement {placement} is not supported", hint="Use Shard, Replicate, or what FSDP2 makes."
            )
        dim = placement.dim + len(shape) if placement.dim < 0 else placement.dim
        if not 0 <= dim < len(shape):
            raise PlacementError(
                f"{name}: {placement} names a dimension that is not in its shape {shape}",
                hint="Choose placements by name: a mapping of patterns, or a function of name and shape.",
            )
        ranges = part.ranges[dim]
        if isinstance(placement, _StridedShard):
            ranges = _strided(ranges, int(placement.split_factor), count, number)
        else:
            ranges = chunk(ranges, count, number)
        part = part.with_range(dim, ranges)
    return part


def _strided(ranges: Ranges, factor: int, count: int, number: int) -> Ranges:
    return join([kept for outer in range(factor) for kept in chunk(chunk(ranges, factor, outer), count, number)])


class Chooser:
    """Gives each tensor its placements: the same for all, by pattern, or by a function of name and shape.

    Tensors that no pattern names or for which the function returns None, and scalars, are replicated.
    """

    def __init__(self, chosen: Any, mesh: "DeviceMesh") -> None:
        self.chosen, self.mesh = chosen, mesh
        self.used: set[str] = set()

    def placements(self, name: str, shape: tuple[int, ...]) -> "tuple[Placement, ...]":
        """Return a tensor's placements, one for each dimension of the mesh, with dimensions counted from 0."""
        from torch.distributed.tensor import Placement, Replicate, Shard

        chosen: Any = self.chosen
        if isinstance(chosen, Mapping):
            pattern = next((pattern for pattern in chosen if matches(pattern, name)), None)
            self.used |= set() if pattern is None else {pattern}
            chosen = None if pattern is None else chosen[pattern]
        elif callable(chosen):
            chosen = chosen(name, shape)
        elif not shape:
            chosen = None
        if chosen is None:
            return (Replicate(),) * self.mesh.ndim
        listed = (chosen,) if isinstance(chosen, Placement) else tuple(chosen) if isinstance(chosen, Sequence) else ()
        if not listed or not all(isinstance(one, Placement) for one in listed):
            raise PlacementError(
                f"{name}: {chosen!r} is not a placement", hint="Pass Shard(0), or one for each dimension."
            )
        exact = [type(one) is Shard and one.dim < 0 for one in listed]
        return tuple(Shard(one.dim + len(shape)) if neg else one for one, neg in zip(listed, exact, strict=True))

    def require_used(self) -> None:
        """Raise PlacementError for a pattern that matched nothing."""
        unused = [pattern for pattern in self.chosen if pattern not in self.used] if _is_map(self.chosen) else []
        if unused:
            raise PlacementError(
                f"`placements`: {unused[0]!r} does not match any tensor",
                hint="Show the names with lottapack inspect PACK.",
            )


def _is_map(chosen: Any) -> bool:
    return isinstance(chosen, Mapping)


def check_device(mesh: "DeviceMesh", device: Any) -> None:
    """Raise PlacementError if shards on a device cannot belong to a mesh."""
    if mesh.device_type != device.type:
        raise PlacementError(
            f"a mesh of {mesh.device_type} devices does not fit the device {str(device)!r}",
            hint=f'Load with device="{mesh.device_type}", or create a mesh with init_device_mesh("{device.type}", '
            f"...).",
        )
