"""A tensor that lies in the file in another form: a stored parameter's, or one of an adapter."""

from collections.abc import Iterator
from typing import NamedTuple

from lottapack.format.codings import coding_of
from lottapack.format.container import TensorInfo
from lottapack.format.descriptor import Adapted, Coding, Parameter, Stored, TensorRecord, adapter_shapes, factor_dims
from lottapack.format.names import adapter_prefix


class CodedTensor(NamedTuple):
    """What decoding gives, and from what. ``name``: the tensor's own; the file holds ``NAME.codes`` and so on.

    ``infos``: the coded tensors in the order of the coding's parts.
    """

    name: str
    entry: Stored
    coding: Coding
    infos: tuple[TensorInfo, ...]

    @property
    def dtype(self) -> str:
        """Of the decoded tensor."""
        return self.entry.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the decoded tensor."""
        return self.entry.shape


def as_stored(record: TensorRecord, shape: tuple[int, ...]) -> Stored:
    """A tensor of an adapter as the parameter whose rules it follows."""
    return Stored(
        shape=shape, dtype=record.dtype, group="other", trained=True, sha256=record.sha256, coding=record.coding
    )


def adapter_entries(name: str, entry: Adapted) -> Iterator[tuple[str, str, Stored]]:
    """Yield the last name, the whole name and the entry, as a stored parameter's, of each tensor of an adapter."""
    shapes = adapter_shapes(entry.rank, *factor_dims(entry.shape, entry.fan_in_fan_out))
    for part, record in entry.adapter.tensors().items():
        yield part, adapter_prefix(name) + part, as_stored(record, shapes[part])


def coded_entries(name: str, entry: Parameter) -> Iterator[tuple[str, Stored]]:
    """Yield what of a parameter has a coding, by its name in errors: itself, or tensors of its adapter."""
    if isinstance(entry, Stored) and coding_of(entry):
        yield name, entry
    elif isinstance(entry, Adapted):
        yield from ((whole, part) for _, whole, part in adapter_entries(name, entry) if coding_of(part))
