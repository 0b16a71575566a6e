"""The tensors that a descriptor needs, and whether a file has exactly these (spec: container, 5; refusals, 3).

Parameters and tensors have separate names: code refers to a parameter by its name, and to a tensor of the file by its
TensorInfo. A pack in which one name would mean two things is refused.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lottapack.codecs import MOST_GROWTH
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
"""The part name of a stored parameter without a coding. Other parts are called as in the file."""


class Expected(NamedTuple):
    """A tensor that the descriptor needs.

    ``parameter``: the name of the parameter that it belongs to; None for a table or a file, whose location in the
    descriptor is then the part. ``shape``: None for a compressed tensor, whose size only the file knows; ``decoded`` is
    then its size in bytes after decompression.
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
        """Whether it is a plain parameter under the parameter's own name."""
        return self.name == self.parameter

    @property
    def owner(self) -> str:
        """The name that errors use for the entry that needs it."""
        return self.part if self.parameter is None else self.parameter


def expected_tensors(descriptor: Descriptor) -> Iterator[Expected]:
    """Yield each tensor that the descriptor needs: tables, files, then the parts of the parameters."""
    for table_id, table in descriptor.rng.tables.items():
        place = f"rng.tables.{table_id}"
        yield Expected(table_tensor(table_id), None, place, "float32", (2**table.bits,), table.sha256)
    for name, record in (descriptor.files or {}).items():
        yield expected_file(name, record)
    for name, entry in descriptor.parameters.items():
        yield from expected_parts(name, entry)


def expected_file(name: str, record: FileRecord) -> Expected:
    """Return the tensor that a file's entry needs."""
    place, tensor = f"files[{quote(name)}]", file_tensor(name)
    if isinstance(record.coding, Coding):
        return Expected(f"{tensor}.codes", None, place, "uint8", None, str(record.coding.codes), record.size)
    return Expected(tensor, None, place, "uint8", (record.size,), record.sha256)


def expected_parts(name: str, entry: Parameter) -> Iterator[Expected]:
    """Yield each tensor that one parameter's entry needs."""
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
    """Yield each name that would mean two things, and what these are."""
    derived = ((expected.name, expected.owner) for expected in expected_tensors(descriptor) if not expected.is_whole)
    adapted = (name for name, entry in descriptor.parameters.items() if isinstance(entry, Adapted))
    return clashes(descriptor.parameters, derived, adapted)


def check_agreement(descriptor: Descriptor, tensors: Mapping[str, TensorInfo], source: str) -> dict[str, str]:
    """Check that a file has exactly the tensors that its descriptor needs, and return their SHA-256 by name.

    ``source`` names the file in errors. Raises AgreementError with every difference.
    """
    out = Collector()
    digests: dict[str, str] = {}
    clashing = dict(name_clashes(descriptor))
    for name, message in clashing.items():
        out.add("two-roles", name, message)
    for expected in expected_tensors(descriptor):
        digests[expected.name] = expected.sha256
        if expected.name in clashing:
            continue
        info = tensors.get(expected.name)
        if info is None:
            out.add("missing", expected.name, f"{expected.owner} needs this tensor, but the file lacks it")
        elif expected.shape is None:
            for problem in _compressed_faults(expected, info):
                out.add(problem.kind, problem.where, problem.message)
        elif (info.dtype, info.shape) != (expected.dtype, expected.shape):
            actual, wanted = f"{info.dtype} {list(info.shape)}", f"{expected.dtype} {list(expected.shape)}"
            out.add("mismatch", expected.name, f"the file has {actual}, but the descriptor needs {wanted}")
    for name in tensors:
        if name not in digests:
            out.add("unused", name, "the descriptor does not use this tensor")
    if out.problems:
        raise AgreementError(
            source, out.problems, hint="Get the file again from where it came, or pack the model again."
        )
    return digests


def _compressed_faults(expected: Expected, info: TensorInfo) -> Iterator[Problem]:
    """Yield the faults of a compressed tensor: any size is allowed, unless it is too small for its contents."""
    if info.dtype != "uint8" or len(info.shape) != 1:
        actual = f"{info.dtype} {list(info.shape)}"
        yield Problem(
            "mismatch", info.name, f"the file has {actual}, but a compressed tensor is one dimension of uint8"
        )
    elif expected.decoded > MOST_GROWTH * info.nbytes:
        message = f"{info.nbytes:,} bytes cannot decompress to the {expected.decoded:,} bytes of {expected.owner}"
        yield Problem("mismatch", info.name, message)
