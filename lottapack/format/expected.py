"""The tensors that a descriptor needs, and whether a file has exactly these (spec: container, 5; refusals, 3).

Parameters and tensors have separate names: code refers to a parameter by its name, and to a tensor of the file by its
TensorInfo. A pack in which one name would mean two things is refused.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from lottapack.codecs import CODECS, MOST_GROWTH
from lottapack.errors import AgreementError, Problem
from lottapack.format import codings, dtypes
from lottapack.format.coded import as_stored
from lottapack.format.collect import Collector, quote
from lottapack.format.container import GET_AGAIN, TensorInfo
from lottapack.format.descriptor import (
    Adapted,
    Coding,
    Descriptor,
    FileRecord,
    Parameter,
    Stored,
)
from lottapack.format.factors import adapter_shapes
from lottapack.format.names import (
    ADAPTER_PARTS,
    METADATA,
    NAMESPACE,
    adapter_prefix,
    clashes,
    file_tensor,
    table_tensor,
)
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
        if isinstance(entry, Stored | Adapted):
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
        prefix, shapes = adapter_prefix(name), adapter_shapes(entry)
        for part, record in entry.adapter.tensors().items():
            if isinstance(record.coding, Coding):
                tensor = as_stored(record, shapes[part])
                yield from _coded_parts(name, prefix + part, f"{part}.", tensor, record.coding)
            else:
                yield Expected(prefix + part, name, part, record.dtype, shapes[part], record.sha256)


def _coded_parts(parameter: str, whole: str, prefix: str, entry: Stored, coding: Coding) -> Iterator[Expected]:
    for part, dtype, shape, sha256 in codings.coded_tensors(entry, coding):
        decoded = 0 if shape is not None else numel(entry.shape) * dtypes.ITEMSIZE[entry.dtype]
        yield Expected(f"{whole}.{part}", parameter, prefix + part, dtype, shape, sha256, decoded)


def name_clashes(descriptor: Descriptor) -> Iterator[tuple[str, str]]:
    """Yield each name that would mean two things, and what these are."""
    if not any(map(_may_clash, chain(descriptor.parameters, descriptor.files or ()))):
        return iter(())
    derived = ((expected.name, expected.owner) for expected in expected_tensors(descriptor) if not expected.is_whole)
    adapted = (name for name, entry in descriptor.parameters.items() if isinstance(entry, Adapted))
    return clashes(descriptor.parameters, derived, adapted)


_ENDS = *ADAPTER_PARTS, *{f".{field}" for codec in CODECS.values() for field in codec.fields}
"""The ends of the names of tensors that do not have the name of their parameter or file."""


def _may_clash(name: str) -> bool:
    """Return whether the name of a parameter or of a file has the form of another tensor's name.

    Other tensors have names of their own if those do: adapter_prefix() differs for each parameter, and no part's name
    is the end of another's.
    """
    return name.endswith(_ENDS) or NAMESPACE in name or name == METADATA


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
        name, _, _, dtype, shape, sha256, _ = expected
        digests[name] = sha256
        if name in clashing:
            continue
        info = tensors.get(name)
        if info is not None and info.dtype == dtype and info.shape == shape:
            continue
        if info is None:
            out.add("missing", expected.name, f"{expected.owner} needs this tensor, but the file lacks it")
        elif expected.shape is None:
            for problem in _compressed_faults(expected, info):
                out.add(problem.kind, problem.where, problem.message)
        else:
            actual, wanted = f"{info.dtype} {list(info.shape)}", f"{expected.dtype} {list(expected.shape)}"
            out.add("mismatch", expected.name, f"the file has {actual}, but the descriptor needs {wanted}")
    for name in tensors:
        if name not in digests:
            out.add("unused", name, "the descriptor does not use this tensor")
    if out.problems:
        raise AgreementError(source, out.problems, hint=GET_AGAIN)
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
