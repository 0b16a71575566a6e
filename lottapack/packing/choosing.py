"""Find the error of a coding for a given size of the pack."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lottapack.codecs import Trellis8
from lottapack.errors import CheckpointError
from lottapack.packing.pack_result import PackResult
from lottapack.packing.storing import Storage

if TYPE_CHECKING:
    from lottapack.packing.packer import Packer

_TRIES = 10
_LEAST, _MOST = 1e-4, 0.9


def write_within(make: Callable[[Storage], "Packer"], wanted: Storage, max_size: int, path: Path) -> PackResult:
    """Write the pack with the least error, equal for all coded tensors, that is at most ``max_size`` bytes.

    ``make``: returns a packer for a way of storing. Raises CheckpointError if no error makes the pack that small.
    """
    error, best, smallest = 0.01, None, None
    for _ in range(_TRIES):
        packer = make(wanted.again(error))
        size = packer.size()
        smallest = size if smallest is None else min(size, smallest)
        if size <= max_size and (best is None or error < best[0]):
            best = error, packer
        count = sum(kept.numel for kept in packer.storage.kept if kept.form == Trellis8.id)
        if not count or (size <= max_size and (size > 0.995 * max_size or error <= _LEAST)):
            break
        following = min(max(Trellis8.error_for(error, size - 0.998 * max_size, count), _LEAST), _MOST)
        if following == error or (best is not None and following >= best[0]):
            break
        error = following
    if best is None:
        raise CheckpointError(
            f"the smallest pack that the codings allow has {smallest:,} bytes, more than max_size={max_size}",
            hint="Nothing was written. Pass a larger `max_size`, train fewer layers in full, or use a smaller rank.",
        )
    return best[1].write(path)
