"""Constructors see torch's own defaults, whatever the process has set: what they compute goes into every model."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_LOCK = threading.RLock()
"""The default dtype is one for all threads."""


@contextmanager
def own_defaults() -> Iterator[None]:
    """float32 and the CPU by default, as in a fresh process, and afterwards what was set before."""
    with _LOCK, torch.device("cpu"):
        dtype = torch.get_default_dtype()
        if dtype == torch.float32:
            yield
            return
        try:
            torch.set_default_dtype(torch.float32)
            yield
        finally:
            torch.set_default_dtype(dtype)
