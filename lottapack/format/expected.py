"""The tensors that a descriptor calls for, and whether a file holds just these (spec: container, 5; refusals, 3).

Parameters and tensors have names of their own kinds: a parameter is asked for by its name, a tensor of the file by its
TensorInfo. Where one name would mean both of two things, the pack is refused.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lottapack.errors import AgreementError, Problem
from lottapack.format import codings, dtypes
from lottapack.format.coded import adapter_entries
from lottapack.format.collect import Collector, quote
from lottapack.format.container import TensorInfo
from lottapack.format.descriptor import (
    Adapted,
    Coding,
    Descriptor,
    FileRecord,
    Parameter,
    Stored,
)
from lottapack.format.names import clashes, file_tensor, table_tensor
from lottapack.format.shapes import numel

VALUE = "value"
"""The part of a stored parameter without a coding: all of it. Other parts are called as in the file."""


class Expected(NamedTuple):
    """A tensor that the descriptor calls for.

    ``parameter``: the name of the one that it is a part of; None for a table or a file, whose place in the descriptor
    is then the part. ``shape``: None for a compressed tensor, of which only the file knows the size; ``decoded`` is
    then what it must decompress to, in bytes.
    """

    name: str
    parameter: str | None
    part: str
    dtype: str
    shape: tuple[int, ...] | None
    sha256: str
    decoded: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether it is a parameter as it is, under the parameter's own name."""
        return self.name == self.parameter

    @property
    def owner(self) -> str:
        """What errors call the entry that calls for it."""
        return self.part if self.parameter is None else self.parameter


def expected_tensors(descriptor: Descriptor) -> Iterator[Expected]:
    """Yield each tensor that the descriptor calls for: tables, files, then the parts of the parameters."""
    for table_id, table in descriptor.rng.tables.items():
        place = f"rng.tables.{table_id}"
        yield Expected(table_tensor(table_id), None, place, "float32", (2**table.bits,), table.sha256)
    for name, record in (descriptor.files or {}).items():
        yield expected_file(name, record)
    for name, entry in descriptor.parameters.items():
        yield from expected_parts(name, entry)


def expected_file(name: str, record: FileRecord) -> Expected:
    """The tensor that a file's entry calls for."""
    place, tensor = f"files[{quote(name)}]", file_tensor(name)
    if isinstance(record.coding, Coding):
        return Expected(f"{tensor}.codes", None, place, "uint8", None, record.coding.codes, record.size)
    return Expected(tensor, None, place, "uint8", (record.size,), record.sha256)


def expected_parts(name: str, entry: Parameter) -> Iterator[Expected]:
    """Yield each tensor that one parameter's entry calls for."""
    if isinstance(entry, Stored):
        coding = codings.coding_of(entry)
        if coding is None:
            yield Expected(name, name, VALUE, entry.dtype, entry.shape, entry.sha256)
        else:
            yield from _coded_parts(name, name, "", entry, coding)
    elif isinstance(entry, Adapted):
        for part, whole, tensor in adapter_entries(name, entry):
            coding = codings.coding_of(tensor)
            if coding is None:
                yield Expected(whole, name, part, tensor.dtype, tensor.shape, tensor.sha256)
            else:
                yield from _coded_parts(name, whole, f"{part}.", tensor, coding)


def _coded_parts(parameter: str, whole: str, prefix: str, entry: Stored, coding: Coding) -> Iterator[Expected]:
    for part, dtype, shape, sha256 in codings.coded_tensors(entry, coding):
        decoded = 0 if shape is not None else numel(entry.shape) * dtypes.ITEMSIZE[entry.dtype]
        yield Expected(f"{whole}.{part}", parameter, prefix + part, dtype, shape, sha256, decoded)


def name_clashes(descriptor: Descriptor) -> Iterator[tuple[str, str]]:
    """Yield each name that would mean two things, and what it would mean."""
    derived = ((due.name, due.owner) for due in expected_tensors(descriptor) if not due.is_whole)
    adapted = (name for name, entry in descriptor.parameters.items() if isinstance(entry, Adapted))
    return clashes(descriptor.parameters, derived, adapted)


def check_agreement(descriptor: Descriptor, tensors: Mapping[str, TensorInfo], source: str) -> dict[str, str]:
    """Check that a file holds the tensors that its descriptor calls for, each with one use; their SHA-256 by name.

    ``source`` names the file in errors. Raises AgreementError with everything that differs.
    """
    out = Collector()
    digests: dict[str, str] = {}
    clashing = dict(name_clashes(descriptor))
    for name, message in clashing.items():
        out.add("two-roles", name, message)
    for due in expected_tensors(descriptor):
        digests[due.name] = due.sha256
        if due.name in clashing:
            continue
        info = tensors.get(due.name)
        if info is None:
            out.add("missing", due.name, f"{due.owner} needs this tensor and the file lacks it")
        elif due.shape is None:
            for problem in _compressed_faults(due, info):
                out.add(problem.kind, problem.where, problem.message)
        elif (info.dtype, info.shape) != (due.dtype, due.shape):
            found, wanted = f"{info.dtype} {list(info.shape)}", f"{due.dtype} {list(due.shape)}"
            out.add("mismatch", due.name, f"the file holds {found}, the descriptor says {wanted}")
    for name in tensors:
        if name not in digests:
            out.add("unused", name, "no entry calls for this tensor")
    if out.problems:
        raise AgreementError(source, out.problems)
    return digests


def _compressed_faults(due: Expected, info: TensorInfo) -> Iterator[Problem]:
    """A compressed tensor is as large as it likes, but what it cannot hold is refused at once."""
    if info.dtype != "uint8" or len(info.shape) != 1:
        found = f"{info.dtype} {list(info.shape)}"
        yield Problem("mismatch", info.name, f"the file holds {found}, and a compressed tensor is a row of uint8")
    elif due.decoded > codings.MOST_GROWTH * info.nbytes:
        message = f"{info.nbytes:,} bytes cannot decompress to the {due.decoded:,} of {due.owner}"
        yield Problem("mismatch", info.name, message)
