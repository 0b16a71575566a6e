"""Check whether a tensor owns its memory."""

from typing import TYPE_CHECKING

from lottapack.errors import UnsupportedError

if TYPE_CHECKING:
    import torch


def require_memory(tensor: "torch.Tensor") -> None:
    """Raise UnsupportedError unless a contiguous tensor's storage holds its elements.

    Libraries that shard free a storage but keep the tensor, whose address may then belong to other memory.
    """
    try:
        held_bytes = tensor.untyped_storage().nbytes()
    except (NotImplementedError, RuntimeError):  # devices and wrappers that do not have storages
        return
    count = tensor.numel()
    if count and held_bytes < (tensor.storage_offset() + count) * tensor.element_size():
        raise UnsupportedError(
            f"a tensor of shape {tuple(tensor.shape)} does not have its memory: its storage holds {held_bytes:,} bytes",
            hint="Another library freed it, as FSDP frees gathered weights. Fill the tensor while it is whole.",
        )
