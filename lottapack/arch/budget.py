"""Limits on the cost of building a module, in proportion to the tensors that its table declares (decision 0034)."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Final

from lottapack.format.descriptor import Descriptor, Tied
from lottapack.format.dtypes import ITEMSIZE
from lottapack.limits import free_memory

_SECONDS: Final = 2.0
"""Seconds of processor time of the building thread, without imports, for any model. Measured: 0.02 s for a Swin,
0.006 s for a Llama of 2 layers."""
_SECONDS_WITHOUT_TABLE: Final = 4.0
_SECONDS_PER_TENSOR: Final = 0.001
"""Additional seconds for each tensor. Measured: 0.00003 to 0.0003 s."""
_SECONDS_PER_BYTE: Final = 4e-9
"""Additional seconds for each byte that the constructor computes. Measured: 1e-9 s."""
_SECONDS_PER_DECLARED_BYTE: Final = 4e-9
"""Additional seconds for each declared byte. Measured: 3e-9 s for a VideoMAE, which computes positions in Python."""
_SECONDS_DECLARED: Final = 3.0
"""The most seconds of that kind: a table of a few lines can declare any size."""
_SECONDS_PER_ELEMENT: Final = 5e-7
"""Additional seconds for each element that torch draws. Measured: 1e-8 s."""
_TENSORS: Final = 2_000
_TENSORS_PER_TENSOR: Final = 4
"""Tensors for each declared one: a constructor also creates tensors that it does not keep, and ties others."""
_HOST_BYTES: Final = 192_000_000
"""Bytes for tensors that a constructor computes, such as masks, positions and frequencies, and their inputs."""
_LEAST_HOST_BYTES: Final = 16_000_000
_GROWTH: Final = 64_000_000
"""Bytes by which the process may grow besides these tensors: Python objects."""
_GROWTH_PER_TENSOR: Final = 20_000
"""Additional bytes for each tensor's module. Measured: 4,000 to 6,000 bytes."""
_MOST_TENSORS: Final = 100_000
"""The most tensors: as many as a pack can declare."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of building one module.

    ``tensors``, ``nbytes``, ``largest``: the number of tensors that a table declares, their size, and their largest
    dimension; None, 0 and 0 without a table. ``max_bytes``: the caller's limit for all tensors, including those
    that the constructor computes; by default the free memory. It lowers the other limits and never raises them.
    """

    tensors: int | None = None
    nbytes: int = 0
    largest: int = 0
    max_bytes: int | None = None

    @classmethod
    def of_shapes(cls, declared: Iterable[tuple[tuple[int, ...], int]], max_bytes: int | None = None) -> "Budget":
        """Return the budget of a table. ``declared``: the shape and element size of each tensor."""
        tensors = nbytes = largest = 0
        for shape, size in declared:
            tensors += 1
            nbytes += prod(shape) * size
            if 0 not in shape:  # an empty tensor must not justify a large dimension
                largest = max(largest, *shape, 0)
        return cls(tensors, nbytes, largest, max_bytes)

    @classmethod
    def of_descriptor(cls, descriptor: Descriptor, max_bytes: int | None = None) -> "Budget":
        """Return the budget of a pack."""
        declared = descriptor.parameters.values()
        # A tied tensor shares another one's memory, but counts as a tensor.
        return cls.of_shapes(
            [((), 0) if isinstance(entry, Tied) else (entry.shape, ITEMSIZE[entry.dtype]) for entry in declared],
            max_bytes,
        )

    @property
    def most_tensors(self) -> int:
        """The most tensors that the constructor may create."""
        declared = _MOST_TENSORS if self.tensors is None else min(self.tensors, _MOST_TENSORS)
        return _TENSORS + _TENSORS_PER_TENSOR * declared

    @property
    def computed_bytes(self) -> int:
        """The most bytes of tensors that the constructor computes and no checkpoint holds."""
        most = max(min(_HOST_BYTES + self.nbytes, free_memory()), _LEAST_HOST_BYTES)
        return most if self.max_bytes is None else min(most, max(self.max_bytes - self.nbytes, _LEAST_HOST_BYTES))

    @property
    def host_bytes(self) -> int:
        """The most bytes of tensors while the constructor runs, including declared ones that it sets to zero."""
        return min(self.computed_bytes + self.nbytes, _HOST_BYTES + self.nbytes)

    def seconds(self, made: int, computed: int = 0, drawn: int = 0) -> float:
        """Return the processor time that building may take after creating this many tensors.

        ``computed``: the bytes computed so far. ``drawn``: the elements that are drawn.
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
        """Return the bytes by which the process's own memory may grow."""
        return _GROWTH + _GROWTH_PER_TENSOR * made + self.nbytes + self.host_bytes
