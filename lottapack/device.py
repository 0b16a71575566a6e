"""Resolve the device that a caller names."""

import torch

from lottapack.errors import UnsupportedError


def resolve(device: str | torch.device) -> torch.device:
    """Return the torch device of that name. Raises UnsupportedError if it is not available."""
    try:
        resolved = torch.device(device)
        torch.empty(0, dtype=torch.uint8, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError) as fault:
        # Which exception torch raises depends on the backend and on what is missing.
        reason = (str(fault).strip().splitlines() or [type(fault).__name__])[0].partition(". ")[0]
        raise UnsupportedError(
            f"cannot use the device {str(device) if isinstance(device, torch.device) else device!r}: {reason}",
            hint='Use "cpu", or install a torch that supports the device.',
        ) from fault
    return resolved
