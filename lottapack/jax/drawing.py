"""Draw one array of random weights on JAX's devices, each its own part of it."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lottapack.extras import require
from lottapack.format.shapes import numel
from lottapack.jax.parts import placed
from lottapack.rng import Table, hadamard
from lottapack.weights.drawing import check_size, checked

if TYPE_CHECKING:
    import jax


def draw(
    name: str,
    shape: int | Sequence[int],
    *,
    seed: int,
    distribution: str | Table = "normal16",
    scale: float = 1.0,
    dtype: Any = "float32",
    start: int = 0,
    device: "jax.Device | jax.sharding.Sharding | None" = None,
) -> "jax.Array":
    """Draw one array of random weights: the bits of ``lottapack.draw`` with the same arguments, in JAX's operations.

    Each device computes its own part of the array, so that nothing is sent. Inside ``jax.jit`` the array is part of the
    traced computation.

    Args:
        name: the stream's.
        shape: of the array.
        seed: 0 to 2**64 - 1.
        distribution: the id of a built-in table, or a Table.
        scale: what the table's values are multiplied by, rounded to binary32 first.
        dtype: float32, bfloat16 or float16, or its name. Each element is rounded to it once.
        start: the number of the first element.
        device: a device or sharding; by default JAX's default device. Inside ``jax.jit`` leave it out, and pass
            ``out_shardings`` to jit.

    Raises:
        UnsupportedError: JAX is not installed; an argument is out of its range; a device inside ``jax.jit``.
        PlacementError: the sharding does not fit the shape.
        LimitError: the array is larger than the free memory.
        DeviceError: the device computes wrong bits.

    Source:
        spec/v1/stream.md and spec/v1/tables.md.

    Examples:
        >>> array = lottapack.jax.draw("layers.0.weight", (2, 3), seed=42, distribution="sign1", dtype="bfloat16")
        >>> array.shape, array.dtype
        ((2, 3), dtype(bfloat16))
    """
    require("jax", "jax", "drawing JAX arrays")
    from lottapack.jax.stream import elements

    source, sizes = checked(name, shape, seed, distribution, scale, _dtype_name(dtype), start)
    check_size(name, source, sizes)
    if source.matrix is not None:
        next(hadamard.pieces(source, start, numel(sizes)), None)  # refuses elements beyond the matrix
    return placed(name, sizes, device, partial(elements, source, sizes, int(start)))


def _dtype_name(dtype: Any) -> Any:
    """Return the name of a dtype of JAX or NumPy; anything else as it is, for checked() to name or refuse."""
    import jax

    try:
        return dtype if isinstance(dtype, str) else jax.numpy.dtype(dtype).name
    except TypeError:
        return dtype
