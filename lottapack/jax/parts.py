"""Where an array goes, and the part of it that each device makes."""

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

from lottapack.errors import PlacementError, UnsupportedError
from lottapack.limits import check_memory

if TYPE_CHECKING:
    import jax

Part = tuple[slice, ...]
"""A slice for each dimension of an array, as shardings have it."""
Maker = Callable[[Part, Any], Any]
"""``maker(part, device)``: makes a part of an array on a device, or where JAX's defaults say for None."""


def placed(name: str, shape: tuple[int, ...], target: Any, make: Maker) -> Any:
    """Return an array whose parts are made on the devices of a target; None stands for JAX's default device.

    Raises PlacementError for a target that does not fit the shape, UnsupportedError if a jit traces the call.
    """
    import jax

    if target is None:
        return make(tuple(slice(0, size) for size in shape), None)
    sharding = _sharding(name, target)
    made = [make(part, device) for device, part in parts_of(name, shape, target).items()]
    if any(isinstance(one, jax.core.Tracer) for one in made):
        raise UnsupportedError(
            f"{name!r}: `device` cannot be used inside jax.jit",
            hint="Leave it out there, and pass `out_shardings` to jax.jit.",
        )
    return jax.make_array_from_single_device_arrays(shape, sharding, made)


def parts_of(name: str, shape: tuple[int, ...], target: Any) -> "dict[jax.Device, Part]":
    """Return the part of an array that each of this process's devices holds. Raises PlacementError."""
    try:
        found: dict[jax.Device, Part] = _sharding(name, target).addressable_devices_indices_map(shape)
    except (ValueError, IndexError) as fault:
        raise PlacementError(
            f"{name!r}: the sharding does not fit the shape {shape}: {fault}",
            hint="Choose one for each array: pass a function of name and shape as `device`.",
        ) from fault
    return found


def _sharding(name: str, target: Any) -> "jax.sharding.Sharding":
    import jax

    if isinstance(target, jax.sharding.Sharding):
        return target
    if isinstance(target, jax.Device):
        return jax.sharding.SingleDeviceSharding(target)
    raise PlacementError(
        f"{name!r}: device={target!r} is neither a device nor a sharding",
        hint="Pass one of jax.devices(), or a jax.sharding.Sharding.",
    )


def check_parts(where: str, arrays: dict[str, tuple[tuple[int, ...], int, Any]], extra: int, limit: int | None) -> None:
    """Raise LimitError for arrays, by name their shape, itemsize and target, that the CPU's memory does not hold.

    Parts on other devices do not count, whose allocators refuse what they do not hold. ``extra``: bytes beside them.
    """
    import jax

    needed = extra
    for name, (shape, itemsize, target) in arrays.items():
        target = jax.devices()[0] if target is None else target
        for device, part in parts_of(name, shape, target).items():
            sizes = [last - first for first, last, _ in (s.indices(n) for s, n in zip(part, shape, strict=True))]
            needed += prod(sizes) * itemsize if device.platform == "cpu" else 0
    check_memory(where, needed, limit)
