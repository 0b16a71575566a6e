"""The device that a caller names."""

import torch

from lottapack.errors import UnsupportedError


def resolve(device: str | torch.device) -> torch.device:
    """The torch device of that name, if it is there. Raises UnsupportedError naming it."""
    try:
        found = torch.device(device)
        torch.empty(0, dtype=torch.uint8, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as fault:
        # torch raises one or another of these, by backend and by what is missing.
        reason = (str(fault).strip().splitlines() or [type(fault).__name__])[0].partition(". ")[0]
        raise UnsupportedError(
            f"the device {str(device)!r} cannot be used: {reason}",
            hint='Use "cpu", or install a torch that supports the device.',
        ) from fault
    return found
