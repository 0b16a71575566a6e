"""The exact peak of bytes from torch's CPU allocator."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

T = TypeVar("T")


class _Inline:
    """An executor without threads, since torch counts the calling thread only."""

    def __init__(self, *_: Any) -> None: ...

    def __enter__(self) -> "_Inline":
        return self

    def __exit__(self, *_: Any) -> None: ...

    def submit(self, function: Callable[..., T], *arguments: Any) -> "Future[T]":
        done: Future[T] = Future()
        done.set_result(function(*arguments))
        return done


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with mock.patch("lottapack.loading.load.ThreadPoolExecutor", _Inline):
            yield
    finally:
        torch.set_num_threads(threads)


def peak(function: Callable[[], T]) -> tuple[T, int]:
    """Call a function; return its result and the peak of allocated bytes."""
    with _one_thread(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        result = function()
    assert record.profiler is not None
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    return result, most


def size(model: nn.Module) -> int:
    """Return the bytes of a model's storages, each counted once."""
    pieces = [tensor.untyped_storage() for tensor in [*model.parameters(), *model.buffers()]]
    return sum({piece.data_ptr(): piece.nbytes() for piece in pieces}.values())
