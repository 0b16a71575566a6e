"""How many tensors a constructor makes, and how much memory those take that hold numbers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_map_only

from lottapack.arch.budget import Budget
from lottapack.errors import LimitError
from lottapack.limits import size_text

_OBJECT: Final = 1_000
"""Bytes of a tensor as an object of Python."""
_NUMBER: Final = 32
"""Bytes of a number as an object of Python, and of its place in a list."""
_UNDECLARED: Final = 2_000_000_000
"""Bytes. Measured: a mixture of experts of 671 billion parameters sets 425 MB of them to zero, and none to a number."""
_UNKNOWN: Final = 16
"""Where the size of a result depends on numbers: so many times the bytes that went in."""


class Account:
    """The tensors of one build. Memory is asked for before it is taken."""

    def __init__(self, label: str, budget: Budget) -> None:
        self.label, self.budget = label, budget
        self.made = self.computed = self.drawn = 0
        self.most, self.host = budget.most_tensors, budget.host_bytes
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self._total = 0

    def seconds(self) -> float:
        """Processor time that is allowed by now."""
        return self.budget.seconds(self.made, self.computed, self.drawn)

    def growth(self) -> int:
        """Growth of the process that is allowed by now."""
        return self.budget.growth(self.made)

    def count(self) -> None:
        """One more tensor is made."""
        self.made += 1
        if self.made > self.most:
            declared = self.budget.tensors
            justified = "" if declared is None else f", and its table declares {declared:,}"
            raise LimitError(
                f"{self.label}: its configuration asks for more than {self.most:,} tensors{justified}",
                hint="A pack is not loaded whose configuration asks for much more than it declares.",
            )

    def allow(self, size: int) -> None:
        """Where no table declares anything, the tensors of the empty module count for one, up to a limit."""
        if self.budget.tensors is None:
            self.budget = replace(self.budget, nbytes=min(size, _UNDECLARED))
            self.host = self.budget.host_bytes

    def expect(self, size: int) -> None:
        """Raise LimitError unless so many bytes are within what is allowed, beside those that are in use."""
        self.computed += size
        if self._total + size > self.host:
            self._forget()
        if self._total + size > self.host:
            self._refuse(self._total + size, self.host)

    def require_computed(self, size: int) -> None:
        """Raise LimitError unless tensors that no checkpoint holds may take so many bytes."""
        if size > self.budget.computed_bytes:
            self._refuse(size, self.budget.computed_bytes)

    def _refuse(self, size: int, allowed: int) -> None:
        limited = self.budget.max_bytes is not None and replace(self.budget, max_bytes=None).computed_bytes >= size
        raise LimitError(
            f"{self.label}: its constructor computes tensors of {size_text(size)} that no checkpoint holds, and "
            f"{size_text(allowed)} are allowed",
            hint="If you trust the pack, pass a larger max_bytes."
            if limited
            else "They may take somewhat more than the tensors that its table declares. A pack is not loaded whose "
            "configuration asks for more, whatever max_bytes.",
        )

    def expect_result(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], ins: Iterable[torch.Tensor]
    ) -> None:
        """As expect(), of what a function returns: found by calling it with tensors that have no memory."""
        before = {id(tensor): tensor for tensor in ins}
        try:
            bare = {key: tensor.to("meta") for key, tensor in before.items()}
            known = {tensor.untyped_storage()._cdata for tensor in bare.values()}
            given, named = tree_map_only(
                torch.Tensor, lambda tensor: bare.get(id(tensor), tensor), (args, dict(kwargs))
            )
            if "device" in named or not before:
                named["device"] = "meta"
            results = list(tensors_in(func(*given, **named)))
        except Exception:  # noqa: BLE001
            # Without the numbers it cannot be told, or it fails: then it will with them too.
            self.expect(_UNKNOWN * sum(tensor.nbytes for tensor in before.values()))
            return
        sizes = {
            storage._cdata: storage.nbytes()
            for storage in (tensor.untyped_storage() for tensor in results if tensor.is_meta)
            if storage._cdata not in known
        }
        self.expect(sum(sizes.values()))

    def expect_objects(self, tensor: torch.Tensor) -> None:
        """As expect(), of a tensor that is to be taken apart into tensors, along any dimension."""
        self.expect(_OBJECT * max(tensor.shape, default=0))

    def expect_numbers(self, tensor: torch.Tensor) -> None:
        """As expect(), of a tensor that is to become a list."""
        self.expect(_NUMBER * tensor.numel())

    def note(self, result: Any) -> None:
        """Count the memory of results for as long as it is in use."""
        for tensor in tensors_in(result):
            if tensor.device.type != "meta":
                storage = tensor.untyped_storage()
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
    """The tensors among arguments or results, in lists and the like too."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
