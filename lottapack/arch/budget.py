"""What it may cost to build a module, in proportion to the tensors that its table declares (decision 0034)."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Final

from lottapack.format.descriptor import Descriptor, Tied
from lottapack.format.dtypes import ITEMSIZE
from lottapack.limits import free_memory

_SECONDS: Final = 2.0
"""Processor time of the building thread, imports aside, for any model. Measured: 0.02 s for a Swin, 0.006 s for a
Llama of 2 layers."""
_SECONDS_WITHOUT_TABLE: Final = 4.0
_SECONDS_PER_TENSOR: Final = 0.001
"""Measured: 0.00003 to 0.0003 s."""
_SECONDS_PER_BYTE: Final = 4e-9
"""Of what the constructor computes. Measured: 1e-9 s."""
_SECONDS_PER_DECLARED_BYTE: Final = 4e-9
"""A large model may compute more. Measured: 3e-9 s for a VideoMAE, whose positions are computed by Python."""
_SECONDS_DECLARED: Final = 3.0
"""The most of that: a table of a few lines can declare any size."""
_SECONDS_PER_ELEMENT: Final = 5e-7
"""For what torch itself draws. Measured: 1e-8 s."""
_TENSORS: Final = 2_000
_TENSORS_PER_TENSOR: Final = 4
"""A constructor makes tensors that it does not keep, and ties others."""
_HOST_BYTES: Final = 192_000_000
"""For tensors that a constructor computes: masks, positions, frequencies, and what they are made of."""
_LEAST_HOST_BYTES: Final = 16_000_000
_GROWTH: Final = 64_000_000
"""Of the process, beside these tensors: Python's objects."""
_GROWTH_PER_TENSOR: Final = 20_000
"""Of the modules that hold them. Measured: 4,000 to 6,000 bytes."""
_MOST_TENSORS: Final = 100_000
"""As many as a pack can declare."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of building one module.

    ``tensors``, ``nbytes``, ``largest``: how many a table declares, their size, and the largest dimension among them;
    None, 0 and 0 where there is no table. ``max_bytes``: what the caller allows for the tensors, those that the
    constructor computes included; by default what is free. It lowers the limits and never raises them.
    """

    tensors: int | None = None
    nbytes: int = 0
    largest: int = 0
    max_bytes: int | None = None

    @classmethod
    def of_shapes(cls, declared: Iterable[tuple[tuple[int, ...], int]], max_bytes: int | None = None) -> "Budget":
        """The budget of a table. ``declared``: shape and element size of each tensor."""
        tensors = nbytes = largest = 0
        for shape, size in declared:
            tensors += 1
            nbytes += prod(shape) * size
            if 0 not in shape:  # what takes no memory justifies nothing
                largest = max(largest, *shape, 0)
        return cls(tensors, nbytes, largest, max_bytes)

    @classmethod
    def of_descriptor(cls, descriptor: Descriptor, max_bytes: int | None = None) -> "Budget":
        """The budget of a pack."""
        declared = descriptor.parameters.values()
        # What is tied has the memory of another, and is a tensor too.
        return cls.of_shapes(
            [((), 0) if isinstance(entry, Tied) else (entry.shape, ITEMSIZE[entry.dtype]) for entry in declared],
            max_bytes,
        )

    @property
    def most_tensors(self) -> int:
        """How many tensors the constructor may make."""
        declared = _MOST_TENSORS if self.tensors is None else min(self.tensors, _MOST_TENSORS)
        return _TENSORS + _TENSORS_PER_TENSOR * declared

    @property
    def computed_bytes(self) -> int:
        """How large the tensors may be that the constructor computes and no checkpoint holds."""
        most = max(min(_HOST_BYTES + self.nbytes, free_memory()), _LEAST_HOST_BYTES)
        return most if self.max_bytes is None else min(most, max(self.max_bytes - self.nbytes, _LEAST_HOST_BYTES))

    @property
    def host_bytes(self) -> int:
        """How much memory tensors may take while the constructor runs: also declared ones, which it sets to zero."""
        return min(self.computed_bytes + self.nbytes, _HOST_BYTES + self.nbytes)

    def seconds(self, made: int, computed: int = 0, drawn: int = 0) -> float:
        """How much processor time building may take that has made so many tensors.

        ``computed``: bytes that it has computed so far. ``drawn``: elements that it draws.
        """
        done = made if self.tensors is None else max(made, self.tensors)
        return (
            (_SECONDS_WITHOUT_TABLE if self.tensors is None else _SECONDS)
            + _SECONDS_PER_TENSOR * done
            + min(_SECONDS_PER_BYTE * computed, _SECONDS)
            + min(_SECONDS_PER_DECLARED_BYTE * self.nbytes, _SECONDS_DECLARED)
            + _SECONDS_PER_ELEMENT * drawn
        )

    def growth(self, made: int) -> int:
        """How much the process's own memory may grow meanwhile."""
        return _GROWTH + _GROWTH_PER_TENSOR * made + self.nbytes + self.host_bytes
