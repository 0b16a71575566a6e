"""Limits on the size of a model, checked before anything is built (spec: refusals, section 5)."""

import os
import re
import reprlib
import shutil
from contextlib import suppress
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lottapack.errors import LimitError, UnsupportedError

if TYPE_CHECKING:
    import torch


def free_memory(device: "torch.device | str" = "cpu") -> int:
    """Return the free bytes of memory on a device, or 2**63 - 1 if the device does not report them."""
    if not str(device).startswith("cpu"):
        import torch

        backend = getattr(torch, torch.device(device).type, None)
        if backend is None or not hasattr(backend, "mem_get_info"):
            return 2**63 - 1
        # Memory that torch holds in its cache but no longer uses is free too.
        cached = backend.memory_reserved(device) - backend.memory_allocated(device)
        return int(backend.mem_get_info(device)[0]) + int(cached)
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 2**63 - 1


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?i?B)?", re.IGNORECASE)
_POWERS = {"b": 0, "k": 1, "m": 2, "g": 3, "t": 4}

TRUST: Final = "If you trust the pack, use a larger machine or device, or pass a larger `max_bytes`."


def check_memory(
    source: str, needed: int, max_bytes: int | None, device: "torch.device | str" = "cpu", *, hint: str = TRUST
) -> None:
    """Raise LimitError for a model of ``needed`` bytes over ``max_bytes``, by default the device's free memory."""
    require_bytes(max_bytes)
    allowed = free_memory(device) if max_bytes is None else max_bytes
    if needed > allowed:
        limit = (
            f"only {size_text(allowed)} are free on {device}"
            if max_bytes is None
            else f"`max_bytes={allowed}` allows only {size_text(allowed)}"
        )
        raise LimitError(f"{source}: the model needs {size_text(needed)}, but {limit}", hint=hint)


def require_bytes(max_bytes: object) -> None:
    """Raise LimitError for a ``max_bytes`` that is not a number: NaN would allow anything."""
    if max_bytes is not None and (not isinstance(max_bytes, Real) or max_bytes != max_bytes):
        raise LimitError(
            f"max_bytes={reprlib.repr(max_bytes)} is not a number of bytes",
            hint="Pass an integer, such as 8_000_000_000, or leave it out for the free memory.",
        )


def bytes_of(size: object, argument: str) -> int:
    """Return the bytes of a size: a number, or text such as ``5GB``, ``500 MB`` or ``2GiB``.

    Raises UnsupportedError.
    """
    parsed = 0
    if isinstance(size, Integral) and not isinstance(size, bool):
        parsed = int(size)
    elif isinstance(size, str) and (match := _SIZE.fullmatch(size.strip())):
        unit = (match[2] or "B").lower()
        parsed = int(min(float(match[1]) * (1024 if "i" in unit else 1000) ** _POWERS[unit[0]], 2**63))
    if not 0 < parsed < 2**63:
        raise UnsupportedError(
            f"`{argument}={reprlib.repr(size)}` is not a size",
            hint="Pass a whole number of bytes above 0, or a number with a unit, such as 5GB, 500MB or 15MiB.",
        )
    return parsed


def check_disk(source: str, needed: int, folder: Path) -> None:
    """Raise LimitError if the folder's disk has less free space than ``needed`` bytes."""
    with suppress(OSError):
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise LimitError(
                f"{source} needs {size_text(needed)}, but only {size_text(free)} are free in {folder}",
                hint="Free some space or choose another folder.",
            )


def size_text(size: int) -> str:
    """Format a number of bytes in decimal units, such as ``24.3 MB``."""
    if size < 1000:
        return "1 byte" if size == 1 else f"{size} bytes"
    units = ("kB", "MB", "GB", "TB", "PB", "EB", "ZB")
    # Round to three digits first: 999,950 is 1 MB, not 1,000 kB.
    digits, exponent = f"{size:.2e}".split("e")
    power = min(int(exponent) // 3, len(units))
    return f"{float(digits) * 10 ** (int(exponent) - 3 * power):.3g} {units[power - 1]}"
