"""Merged weights as MLX arrays, for Apple's machines and others that MLX runs on. Extra: ``mlx``."""

from os import PathLike
from typing import Any

import numpy as np

from lottapack import numpy
from lottapack.errors import UnsupportedError
from lottapack.extras import require
from lottapack.format.descriptor import Tied
from lottapack.loading.reading import Reading

__all__ = ["load"]


def load(
    path: str | PathLike[str],
    *,
    scaffold: str | None = None,
    max_bytes: int | None = None,
    require_signature: str | PathLike[str] | None = None,
) -> dict[str, Any]:
    """Load the merged weights of a pack as MLX arrays by name, without torch.

    The bits are those of ``load(path, merge=True).state_dict()``; bfloat16 stays bfloat16. Tied entries share one
    array. ``model.load_weights(list(arrays.items()))`` takes them where MLX's model has the same names.

    Args:
        path: the pack, or a reference as in load().
        scaffold: the name of one of the pack's scaffolds; by default that of its main seed.
        max_bytes: the most memory that the arrays may take; by default what is free.
        require_signature: a public key in PEM, as in load().

    Raises:
        UnsupportedError: MLX is not installed; the pack has float64 entries, which MLX does not have on every device;
            only torch can draw the weights.
        LottapackError: and every other error that lottapack.numpy.load() raises.

    Source:
        spec/v1/merge.md.

    Examples:
        >>> arrays = lottapack.mlx.load("model.lotta.safetensors")
        >>> arrays["0.weight"].shape, arrays["0.weight"].dtype
        ((32, 16), mlx.core.float32)
    """
    mx = require("mlx.core", "mlx", "loading MLX arrays")
    with Reading(scaffold, require_signature=require_signature).open(path) as pack:
        entries = pack.descriptor.parameters
        owners = {name: pack.descriptor.resolve(name) for name in entries}
        dtypes = {name: entry.dtype for name, entry in entries.items() if not isinstance(entry, Tied)}
        wide = [name for name, dtype in dtypes.items() if dtype == "float64"]
        if wide:
            raise UnsupportedError(
                f"{pack.path}: {wide[0]} has the dtype float64, which MLX would cut to 32 bits",
                hint="Load it with lottapack.numpy.load().",
            )
        plain = numpy.loaded(pack, str(path), max_bytes)
    made: dict[str, Any] = {}
    for name, dtype in dtypes.items():
        array = plain.pop(name)
        if dtype == "bfloat16":  # float32 holds it exactly, in its upper half
            made[name] = mx.array((array.view(np.uint32) >> np.uint32(16)).astype(np.uint16)).view(mx.bfloat16)
        else:
            made[name] = mx.array(array)
    return {name: made[owner] for name, owner in owners.items()}
