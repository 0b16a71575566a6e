"""Merged weights as JAX arrays on devices: a pytree for ``jax.jit``, Flax, Equinox and others."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from lottapack.errors import UnsupportedError
from lottapack.extras import require
from lottapack.format.descriptor import Adapted, Constant, Seeded, Stored, Tied
from lottapack.format.dtypes import ITEMSIZE
from lottapack.format.packfile import PackFile
from lottapack.format.shapes import numel
from lottapack.jax.parts import Part, check_parts, placed
from lottapack.loading.reading import Reading
from lottapack.numpy import refuse_torch
from lottapack.weights import arrays
from lottapack.weights.loaded_size import largest_drawn

if TYPE_CHECKING:
    import jax

_WIDE = ("int64", "uint64", "float64")


def load(
    path: str | PathLike[str],
    *,
    device: "jax.Device | jax.sharding.Sharding | Callable[[str, tuple[int, ...]], Any] | None" = None,
    nested: bool = False,
    scaffold: str | None = None,
    max_bytes: int | None = None,
    require_signature: str | PathLike[str] | None = None,
) -> dict[str, Any]:
    """Load the merged weights of a pack as JAX arrays, without torch.

    The bits are those of ``load(path, merge=True).state_dict()``; bfloat16 stays bfloat16. Each device computes its own
    part of a generated weight without an adapter. Weights with adapters are merged on the CPU, for each device its own
    rows, because compilers for devices round a product and a sum together. Tied entries share one array.

    Args:
        path: the pack, or a reference as in load().
        device: a device or sharding, or a function that returns one for a name and a shape; by default JAX's default
            device.
        nested: whether dots in the names become levels of dicts, as in ``{"layers": {"0": {"weight": ...}}}``; else
            the dict is flat.
        scaffold: the name of one of the pack's scaffolds; by default that of its main seed.
        max_bytes: the most memory of the CPU to take, for arrays there and for the largest weight; by default what is
            free.
        require_signature: a public key in PEM, as in load().

    Raises:
        UnsupportedError: JAX is not installed; the pack has 64-bit entries and JAX's 64-bit mode is off; only torch
            can draw the weights.
        PlacementError: a sharding does not fit the shape of an array.
        LottapackError: and every other error that lottapack.numpy.load() raises.

    Source:
        spec/v1/merge.md.

    Examples:
        >>> arrays = lottapack.jax.load("model.lotta.safetensors")
        >>> arrays["0.weight"].shape, arrays["0.weight"].dtype
        ((32, 16), dtype('float32'))
    """
    jax = require("jax", "jax", "loading JAX arrays")
    with Reading(scaffold, require_signature=require_signature).open(path) as pack:
        refuse_torch(pack)
        own = {name: entry for name, entry in pack.descriptor.parameters.items() if not isinstance(entry, Tied)}
        wide = [name for name, entry in own.items() if entry.dtype in _WIDE]
        if wide and not jax.config.jax_enable_x64:
            raise UnsupportedError(
                f"{pack.path}: {wide[0]} has the dtype {own[wide[0]].dtype}, which JAX would cut to 32 bits",
                hint='Turn on its 64-bit mode first: jax.config.update("jax_enable_x64", True)',
            )
        targets = {name: device(name, e.shape) if callable(device) else device for name, e in own.items()}
        sizes = {name: (entry.shape, ITEMSIZE[entry.dtype], targets[name]) for name, entry in own.items()}
        merged = (numel(e.shape) * ITEMSIZE[e.dtype] for e in own.values() if not isinstance(e, Seeded))
        check_parts(str(pack.path), sizes, max(merged, default=0) + largest_drawn(pack), max_bytes)
        made = {name: placed(name, e.shape, targets[name], _maker(pack, name, e)) for name, e in own.items()}
        flat = {name: made[pack.descriptor.resolve(name)] for name in pack.descriptor.parameters}
    return _nested(flat) if nested else flat


def _maker(pack: PackFile, name: str, entry: Seeded | Adapted | Stored | Constant) -> Callable[[Part, Any], Any]:
    """Return what makes parts of an entry on a device."""
    import jax

    from lottapack.jax.stream import elements

    if isinstance(entry, Seeded):
        return partial(elements, pack.source(name), entry.shape, 0)

    @cache
    def rows(first: int, last: int) -> Any:
        made = arrays.rows(pack, name, first, last) if isinstance(entry, Adapted) else arrays.whole(pack, name)
        return made.view(np.dtype(jax.numpy.bfloat16)) if entry.dtype == "bfloat16" else made

    def make(part: Part, device: Any) -> Any:
        if isinstance(entry, Adapted):
            first, last, _ = part[0].indices(entry.shape[0])
            array = rows(first, last)[:, *part[1:]]
        else:
            array = rows(0, 0)[part]
        # A copy: JAX's arrays on the CPU can share memory with NumPy's, which belong to others here.
        return jax.device_put(np.array(array), device)

    return make


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return dicts in dicts. Raises UnsupportedError if a name is also the beginning of another one."""
    root: dict[str, Any] = {}
    for name, array in flat.items():
        *levels, last = name.split(".")
        place = root
        for level in levels:
            place = place.setdefault(level, {})
            if not isinstance(place, dict):
                break
        if not isinstance(place, dict) or last in place:
            raise UnsupportedError(
                f"the names cannot be nested: {name} and another one begin alike", hint="Load them flat."
            )
        place[last] = array
    return root
