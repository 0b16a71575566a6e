"""Merged weights as JAX arrays on a device: a pytree for ``jax.jit``, Flax, Equinox and others. Extra: ``jax``."""

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from lottapack import numpy
from lottapack.errors import UnsupportedError
from lottapack.extras import require
from lottapack.format.descriptor import Tied
from lottapack.loading.reading import Reading
from lottapack.registry.local import local

if TYPE_CHECKING:
    import jax

__all__ = ["load"]

_WIDE = ("int64", "uint64", "float64")


def load(
    path: str | PathLike[str],
    *,
    device: "jax.Device | jax.sharding.Sharding | None" = None,
    nested: bool = False,
    scaffold: str | None = None,
    max_bytes: int | None = None,
    require_signature: str | PathLike[str] | None = None,
) -> dict[str, Any]:
    """Load the merged weights of a pack as JAX arrays, without torch.

    The weights are generated on the CPU, with the bits of ``load(path, merge=True).state_dict()``, and then put on the
    device. bfloat16 stays bfloat16. Tied entries share one array.

    Args:
        path: the pack, or a reference as in load().
        device: a device or sharding, as for ``jax.device_put``; by default JAX's default device.
        nested: whether dots in the names become levels of dicts, as in ``{"layers": {"0": {"weight": ...}}}``; else
            the dict is flat.
        scaffold: the name of one of the pack's scaffolds; by default that of its main seed.
        max_bytes: the most memory that the arrays may take on the CPU; by default what is free.
        require_signature: a public key in PEM, as in load().

    Raises:
        UnsupportedError: JAX is not installed; the pack has 64-bit entries and JAX's 64-bit mode is off; only torch
            can draw the weights.
        LottapackError: and every other error that lottapack.numpy.load() raises.

    Source:
        spec/v1/merge.md.

    Examples:
        >>> arrays = lottapack.jax.load("model.lotta.safetensors")
        >>> arrays["0.weight"].shape, arrays["0.weight"].dtype
        ((32, 16), dtype('float32'))
    """
    jax = require("jax", "jax", "loading JAX arrays")
    path = local(path)
    with Reading(scaffold, require_signature=require_signature).open(path) as pack:
        entries = pack.descriptor.parameters
        owners = {name: pack.descriptor.resolve(name) for name in entries}
        dtypes = {name: entry.dtype for name, entry in entries.items() if not isinstance(entry, Tied)}
    wide = [name for name, dtype in dtypes.items() if dtype in _WIDE]
    if wide and not jax.config.jax_enable_x64:
        raise UnsupportedError(
            f"{path}: {wide[0]} has the dtype {dtypes[wide[0]]}, which JAX would cut to 32 bits",
            hint='Turn on its 64-bit mode first: jax.config.update("jax_enable_x64", True)',
        )
    arrays = numpy.load(path, scaffold=scaffold, max_bytes=max_bytes, require_signature=require_signature)
    placed: dict[str, Any] = {}
    for name, dtype in dtypes.items():
        array = arrays.pop(name)
        placed[name] = jax.device_put(array.astype(jax.numpy.bfloat16) if dtype == "bfloat16" else array, device)
    flat = {name: placed[owner] for name, owner in owners.items()}
    return _nested(flat) if nested else flat


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
