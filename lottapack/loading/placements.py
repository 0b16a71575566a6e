"""From a mesh and placements of torch.distributed.tensor to the part of a tensor that this process holds."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottapack.errors import PlacementError
from lottapack.nn.select import matches
from lottapack.weights.parts import Part, Ranges, chunk, join, whole

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Placement

Placements = "Placement | Sequence[Placement]"
Chosen = (
    "Placement | Sequence[Placement] | Mapping[str, Placement | Sequence[Placement]]"
    " | Callable[[str, tuple[int, ...]], Placement | Sequence[Placement] | None]"
)


def part_of(name: str, shape: tuple[int, ...], mesh: "DeviceMesh", placements: "Sequence[Placement]") -> Part:
    """The part of a tensor that this process holds: dimensions of the mesh are applied in order, as DTensor does.

    A dimension is cut as torch.chunk cuts, so the last shards may be smaller, or empty. A ``_StridedShard`` (what FSDP2
    makes of a dimension that tensor parallelism has sharded) takes its chunk of each of ``split_factor`` chunks.
    Raises PlacementError.
    """
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.placement_types import _StridedShard

    coordinate = mesh.get_coordinate()
    if coordinate is None:
        raise PlacementError(
            f"{name}: this process is not in the mesh {tuple(mesh.shape)}",
            hint="Load in the processes of the mesh only, or make a mesh over all of them with init_device_mesh().",
        )
    if len(placements) != mesh.ndim:
        raise PlacementError(
            f"{name}: {len(placements)} placements for a mesh of {mesh.ndim} dimensions, {tuple(mesh.shape)}",
            hint="Give one placement for each dimension of the mesh, such as (Replicate(), Shard(0)).",
        )
    part = whole(shape)
    for axis, placement in enumerate(placements):
        count, number = mesh.size(axis), coordinate[axis]
        if isinstance(placement, Replicate):
            continue
        if not isinstance(placement, Shard | _StridedShard):
            raise PlacementError(
                f"{name}: a weight cannot be placed as {placement}", hint="Use Shard, Replicate, or what FSDP2 makes."
            )
        dim = placement.dim + len(shape) if placement.dim < 0 else placement.dim
        if not 0 <= dim < len(shape):
            raise PlacementError(
                f"{name}: {placement} names a dimension that its shape {shape} lacks",
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
    """Gives each tensor its placements: one choice for all, by pattern, or by a function of name and shape.

    What no pattern names, what the function gives None for, and scalars are replicated.
    """

    def __init__(self, chosen: Any, mesh: "DeviceMesh") -> None:
        self.chosen, self.mesh = chosen, mesh
        self.used: set[str] = set()

    def placements(self, name: str, shape: tuple[int, ...]) -> "tuple[Placement, ...]":
        """The placements of a tensor, one for each dimension of the mesh; shards of dimensions counted from 0."""
        from torch.distributed.tensor import Placement, Replicate, Shard

        found: Any = self.chosen
        if isinstance(found, Mapping):
            pattern = next((pattern for pattern in found if matches(pattern, name)), None)
            self.used |= set() if pattern is None else {pattern}
            found = None if pattern is None else found[pattern]
        elif callable(found):
            found = found(name, shape)
        elif not shape:
            found = None
        if found is None:
            return (Replicate(),) * self.mesh.ndim
        listed = (found,) if isinstance(found, Placement) else tuple(found) if isinstance(found, Sequence) else ()
        if not listed or not all(isinstance(one, Placement) for one in listed):
            raise PlacementError(f"{name}: {found!r} is no placement", hint="Give Shard(0), or one for each dimension.")
        exact = [type(one) is Shard and one.dim < 0 for one in listed]
        return tuple(Shard(one.dim + len(shape)) if neg else one for one, neg in zip(listed, exact, strict=True))

    def require_used(self) -> None:
        """Raise PlacementError for a pattern that named nothing."""
        unused = [pattern for pattern in self.chosen if pattern not in self.used] if _is_map(self.chosen) else []
        if unused:
            raise PlacementError(
                f"placements: no tensor is called {unused[0]!r}", hint="lottapack inspect PACK shows the names."
            )


def _is_map(chosen: Any) -> bool:
    return isinstance(chosen, Mapping)


def check_device(mesh: "DeviceMesh", device: Any) -> None:
    """Raise PlacementError where shards on a device cannot belong to a mesh."""
    if mesh.device_type != device.type:
        raise PlacementError(
            f"a mesh over {mesh.device_type} devices does not fit the device {str(device)!r}",
            hint=f'Load with device="{mesh.device_type}", or make a mesh: init_device_mesh("{device.type}", ...).',
        )
