"""Coded tensors: stored parameters and tensors of adapters that the file holds in another form."""

from collections.abc import Iterator
from typing import NamedTuple

from lottapack.format.codings import WITHOUT_BYTES, coding_of
from lottapack.format.container import TensorInfo
from lottapack.format.descriptor import Adapted, Coding, Parameter, Stored, TensorRecord
from lottapack.format.factors import adapter_shapes
from lottapack.format.names import adapter_prefix


class CodedTensor(NamedTuple):
    """A decoded tensor and its source. ``name``: the tensor's own; the file holds ``NAME.codes`` and so on.

    ``infos``: the coded tensors in the order of the coding's parts.
    """

    name: str
    entry: Stored
    coding: Coding
    infos: tuple[TensorInfo, ...]

    @property
    def dtype(self) -> str:
        """The dtype of the decoded tensor."""
        return self.entry.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the decoded tensor."""
        return self.entry.shape


def is_drawn(held: TensorInfo | CodedTensor) -> bool:
    """Return whether a tensor of an adapter comes from the seed, or is part of another one."""
    return isinstance(held, CodedTensor) and held.coding.id in WITHOUT_BYTES


def as_stored(record: TensorRecord, shape: tuple[int, ...]) -> Stored:
    """Return a tensor of an adapter as a stored parameter, because it follows the same rules."""
    return Stored(
        shape=shape, dtype=record.dtype, group="other", trained=True, sha256=record.sha256, coding=record.coding
    )


def adapter_entries(name: str, entry: Adapted) -> Iterator[tuple[str, str, Stored]]:
    """Yield the last name, the whole name and the entry, as a stored parameter's, of each tensor of an adapter."""
    shapes = adapter_shapes(entry)
    for part, record in entry.adapter.tensors().items():
        yield part, adapter_prefix(name) + part, as_stored(record, shapes[part])


def coded_entries(name: str, entry: Parameter) -> Iterator[tuple[str, Stored]]:
    """Yield the coded tensors of a parameter by their names in errors: itself, or tensors of its adapter."""
    if isinstance(entry, Stored) and coding_of(entry):
        yield name, entry
    elif isinstance(entry, Adapted):
        yield from ((whole, part) for _, whole, part in adapter_entries(name, entry) if coding_of(part))
