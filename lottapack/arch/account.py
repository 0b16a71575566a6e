"""Count the tensors that a constructor creates, and the memory of those that hold numbers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_map_only

from lottapack.arch.bits import bytes_of, parts
from lottapack.arch.budget import Budget
from lottapack.errors import LimitError
from lottapack.limits import size_text

_OBJECT: Final = 1_000
"""The bytes of a tensor as a Python object."""
_NUMBER: Final = 32
"""The bytes of a number as a Python object, with its place in a list."""
_UNDECLARED: Final = 2_000_000_000
"""In bytes. Measured: a 671-billion mixture of experts sets 425 MB of them to zero, and none to another number."""
_UNKNOWN: Final = 16
"""If numbers determine the size of a result, it may have at most this many times the bytes of the inputs."""


class Trial:
    """A build that is given up if it was ``refused`` any memory, even if its library went on without."""

    refused = False


class Account:
    """The tensors of one build. Memory is checked before it is allocated."""

    def __init__(self, label: str, budget: Budget) -> None:
        self.label, self.budget = label, budget
        self.made = self.computed = self.drawn = 0
        self.most, self.host = budget.most_tensors, budget.host_bytes
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self._total = 0
        self._trial: Trial | None = None

    def seconds(self) -> float:
        """Return the processor time that is allowed so far."""
        return self.budget.seconds(self.made, self.computed, self.drawn)

    def growth(self) -> int:
        """Return the growth of the process that is allowed so far."""
        return self.budget.growth(self.made)

    def count(self) -> None:
        """Count one more tensor."""
        self.made += 1
        if self.made > self.most:
            declared = self.budget.tensors
            justified = "" if declared is None else f", but its table declares only {declared:,}"
            raise LimitError(
                f"{self.label}: its configuration creates more than {self.most:,} tensors{justified}",
                hint="Do not use this pack: its configuration needs much more than its table declares.",
            )

    def allow(self, size: int) -> None:
        """Count the tensors of the empty module as declared, up to a limit, if a table does not declare any."""
        if self.budget.tensors is None:
            self.budget = replace(self.budget, nbytes=min(size, _UNDECLARED))
            self.host = self.budget.host_bytes

    def expect(self, size: int) -> None:
        """Raise LimitError if this many bytes, besides those in use, exceed the limit."""
        self.computed += size
        if self._total + size > self.host:
            self._forget()
        if self._total + size > self.host:
            self._refuse(self._total + size, self.host)

    def require_computed(self, size: int) -> None:
        """Raise LimitError if this many bytes are too many for tensors that no checkpoint holds."""
        if size > self.budget.computed_bytes:
            self._refuse(size, self.budget.computed_bytes)

    @contextmanager
    def trial(self, host: int) -> "Iterator[Trial]":
        """Allow at most so many bytes for now. Whatever is created does not count afterwards."""
        before, made, self._trial = self.host, self.made, Trial()
        self.host = min(host, before)
        try:
            yield self._trial
        finally:
            self.host, self._trial = before, None
            self.most += self.made - made
            self._live, self._total = {}, 0

    def _refuse(self, size: int, allowed: int) -> None:
        if self._trial is not None:
            self._trial.refused = True
        limited = self.budget.max_bytes is not None and replace(self.budget, max_bytes=None).computed_bytes >= size
        raise LimitError(
            f"{self.label}: its constructor computes tensors of {size_text(size)} that no checkpoint holds, but only "
            f"{size_text(allowed)} are allowed",
            hint="If you trust the pack, pass a larger `max_bytes`."
            if limited
            else "Do not use this pack: its configuration needs much more than its table declares. No argument raises "
            "this limit.",
        )

    def expect_result(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], ins: Iterable[torch.Tensor]
    ) -> None:
        """Check the size of a function's result by calling the function with tensors that do not have memory."""
        before = {id(tensor): tensor for tensor in ins}
        try:
            bare = {key: tensor.to("meta") for key, tensor in before.items()}
            known = {tensor.untyped_storage()._cdata for tensor in bare.values()}
            meta_args, named = tree_map_only(
                torch.Tensor, lambda tensor: bare.get(id(tensor), tensor), (args, dict(kwargs))
            )
            if "device" in named or not before:
                named["device"] = "meta"
            results = list(tensors_in(func(*meta_args, **named)))
        except Exception:  # noqa: BLE001
            # The size depends on the numbers, or the call fails; then it will fail with the numbers too.
            self.expect(_UNKNOWN * sum(map(bytes_of, before.values())))
            return
        sizes = {
            storage._cdata: storage.nbytes()
            for storage in (part.untyped_storage() for tensor in results if tensor.is_meta for part in parts(tensor))
            if storage._cdata not in known
        }
        self.expect(sum(sizes.values()))

    def expect_objects(self, tensor: torch.Tensor) -> None:
        """Check the size of a tensor's parts before it is taken apart along any dimension."""
        self.expect(_OBJECT * max(tensor.shape, default=0))

    def expect_numbers(self, tensor: torch.Tensor) -> None:
        """Check the size of a list before a tensor is turned into one."""
        self.expect(_NUMBER * tensor.numel())

    def note(self, result: Any) -> None:
        """Count the memory of results for as long as it is in use."""
        for tensor in tensors_in(result):
            if tensor.device.type != "meta":
                for storage in (part.untyped_storage() for part in parts(tensor)):
                    known = self._live.get(storage._cdata)
                    if known is None or _gone(known[0]):
                        self._total += storage.nbytes() - (known[1] if known else 0)
                        self._live[storage._cdata] = StorageWeakRef(storage), storage.nbytes()  # type: ignore[no-untyped-call]

    def _forget(self) -> None:
        self._live = {key: held for key, held in self._live.items() if not _gone(held[0])}
        self._total = sum(size for _, size in self._live.values())


def _gone(storage: StorageWeakRef) -> bool:
    return bool(storage.expired())  # type: ignore[no-untyped-call]


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors among arguments or results, also inside lists, tuples and dicts."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
