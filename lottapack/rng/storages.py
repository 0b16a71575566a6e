"""Whether a tensor's memory is its own."""

from typing import TYPE_CHECKING

from lottapack.errors import UnsupportedError

if TYPE_CHECKING:
    import torch


def require_memory(tensor: "torch.Tensor") -> None:
    """Raise UnsupportedError unless a contiguous tensor's storage holds its elements.

    Libraries that shard take a storage's memory away and leave the tensor, whose address then belongs to somebody else.
    """
    try:
        held = tensor.untyped_storage().nbytes()
    except (NotImplementedError, RuntimeError):  # devices and wrappers that have no storages
        return
    count = tensor.numel()
    if count and held < (tensor.storage_offset() + count) * tensor.element_size():
        raise UnsupportedError(
            f"a tensor of shape {tuple(tensor.shape)} has no memory: its storage holds {held:,} bytes",
            hint="Something freed it, as FSDP frees gathered weights: fill it while it is whole.",
        )
