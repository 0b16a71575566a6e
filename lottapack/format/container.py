"""The safetensors file of a pack in its canonical form (spec: container)."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedReader
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from lottapack.errors import ContainerError, Problem
from lottapack.format import canonical, dtypes
from lottapack.format.collect import MOST, spared
from lottapack.format.descriptor import DIGEST_KEY, METADATA_KEY
from lottapack.format.names import METADATA
from lottapack.format.shapes import numel, shape_fault
from lottapack.format.strangers import checkpoint_hint, folder_hint, kind_of
from lottapack.strict_json.check import utf8_fault
from lottapack.strict_json.patterns import METADATA_BEGIN, METADATA_END, USUAL_SHAPE, USUAL_TENSOR
from lottapack.strict_json.text import JsonText, string_bytes

PACK_END = ".lotta.safetensors"
"""The end of a pack's file name, by which folders and registries find packs (spec: container, section 7)."""

SIGNATURE_END = ".sig"
"""What a signature's file name appends to that of its pack (spec: container, section 8)."""

GET_AGAIN = "Get the file again from where it came, or pack the model again."
"""The next step for a damaged file."""

HEADER_CAP = 100_000_000
_PREFIX = 8
_STRANGE = "does not contain a lottapack descriptor, and does not have the form of a pack"
_BEGINNING = 512
"""The first bytes of a file, by which files that are not packs are recognised."""


class TensorInfo(msgspec.Struct, frozen=True, gc=False):
    """A tensor's position in the file: ``begin`` and ``end`` in bytes from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header. ``data_start``: the offset of the data in the file, in bytes.

    ``hashed``: a SHA-256 that was updated with exactly the checked bytes before the data.
    """

    tensors: dict[str, TensorInfo]
    descriptor: bytes
    data_start: int
    file_size: int
    hashed: "hashlib._Hash"


def layout(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> list[TensorInfo]:
    """Order tensors, given as (name, dtype, shape), in the canonical layout (section 1)."""
    offset, placed = 0, []
    for name, dtype, shape in sorted(tensors, key=lambda item: (-dtypes.ITEMSIZE[item[1]], item[0])):
        end = offset + numel(shape) * dtypes.ITEMSIZE[dtype]
        placed.append(TensorInfo(name, dtype, tuple(shape), offset, end))
        offset = end
    return placed


def header_bytes(tensors: Iterable[TensorInfo], metadata: Mapping[str, str]) -> bytes:
    """Return the length prefix, canonical JSON and padding of a safetensors header."""
    entries: dict[str, Any] = {
        info.name: {
            "dtype": dtypes.CODE[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [info.begin, info.end],
        }
        for info in tensors
    }
    text = canonical.dumps({**entries, METADATA: dict(metadata)})
    text += b" " * (-len(text) % _PREFIX)
    return len(text).to_bytes(_PREFIX, "little") + text


def pack_metadata(descriptor: bytes) -> dict[str, str]:
    """Return the two keys of a pack's ``__metadata__``."""
    return {METADATA_KEY: descriptor.decode(), DIGEST_KEY: hashlib.sha256(descriptor).hexdigest()}


def write(
    file: BinaryIO, metadata: Mapping[str, str], tensors: Iterable[TensorInfo], data: Callable[[str], Any]
) -> None:
    """Write a safetensors file.

    ``data(name)`` returns a tensor's little-endian bytes as any buffer; it is called in the file's order.
    """
    placed = list(tensors)
    file.write(header_bytes(placed, metadata))
    for info in placed:
        buffer = memoryview(data(info.name)).cast("B") if info.nbytes else b""
        if len(buffer) != info.nbytes:
            raise ValueError(f"{info.name}: got {len(buffer)} bytes, but the header says {info.nbytes}")
        file.write(buffer)


def read_header(file: BinaryIO, source: str) -> Header:
    """Read and check everything before the data. Raises ContainerError (refusals, section 1)."""

    def refuse(kind: str, where: str, message: str, hint: str = "") -> ContainerError:
        return ContainerError(source, [Problem(kind, where, message)], hint=hint)

    file_size = file.seek(0, 2)
    file.seek(0)
    prefix = file.read(_PREFIX)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < _PREFIX or length == 0 or length % _PREFIX or length > min(HEADER_CAP, file_size - _PREFIX):
        raise refuse("length", "length", *_length_fault(length, file_size, prefix + file.read(_BEGINNING), source))
    header = file.read(length)
    tensors, descriptor, recorded = _usual(header) or _contents(header, source, refuse)
    _check_layout(tensors, file_size - _PREFIX - length, source)
    digest = hashlib.sha256(descriptor).hexdigest()
    if digest != recorded:
        raise refuse("digest", "descriptor", f"has the SHA-256 {digest}, not the recorded one", "Get the file again.")
    hashed = hashlib.sha256(prefix)
    hashed.update(header)
    return Header({info.name: info for info in tensors}, descriptor, _PREFIX + length, file_size, hashed)


def _contents(header: bytes, source: str, refuse: Callable[..., ContainerError]) -> tuple[list[TensorInfo], bytes, str]:
    """Return the tensors in the order of their names, the descriptor and its recorded SHA-256."""
    end = len(header.rstrip(b" "))
    hint = "" if METADATA_KEY.encode() in header else checkpoint_hint(source)
    try:
        root = canonical.view(header, end=end, source=source, where="header", error=ContainerError, hint=hint)
    except ContainerError as fault:
        if not hint or not header.startswith(b"{"):
            raise
        raise refuse(fault.problems[0].kind, "header", _STRANGE, hint) from fault
    if len(header) - end != -end % _PREFIX:
        raise refuse("canonical", "header", "has more padding than needed")
    if not root.is_object:
        raise refuse("metadata", "header", "the header is not an object")
    tensors, metadata, problems = _members(root)
    descriptor, recorded = _descriptor(metadata, refuse, hint)
    if problems:
        raise ContainerError(source, problems, hint=GET_AGAIN)
    return tensors, descriptor, recorded


def _length_fault(length: int, file_size: int, beginning: bytes, source: str) -> tuple[str, str]:
    """Return what is wrong with a file that does not begin like safetensors, and the next step."""
    if not file_size:
        return "the file is empty: under 8 bytes", "Get the file again."
    if known := kind_of(source, beginning):
        return f"this is {known[0]}, not a pack", known[1]
    sizes = f"a header of {length:,} bytes in a file of {file_size:,}" if file_size >= _PREFIX else "under 8 bytes"
    return f"{sizes}: truncated, or not a safetensors file", "Get the file again, or pass a pack."


def _members(root: JsonText) -> tuple[list[TensorInfo], JsonText | None, list[Problem]]:
    """Return the tensors in the order of their names, the metadata, and the problems of the tensors' entries."""
    tensors: list[TensorInfo] = []
    metadata: JsonText | None = None
    problems: list[Problem] = []
    for name, text in root.members():
        if name == METADATA:
            metadata = text
            continue
        entry = spared(text)
        fault = _entry_fault(entry)
        if fault is None:
            begin, end = entry["data_offsets"]
            tensors.append(TensorInfo(name, dtypes.FROM_CODE[entry["dtype"]], tuple(entry["shape"]), begin, end))
        elif len(problems) < MOST:
            problems.append(Problem(fault[0], f"header.{name[:200]}", fault[1]))
    return tensors, metadata, problems


def _usual(header: bytes) -> tuple[list[TensorInfo], bytes, str] | None:
    """Return what _contents() does in one pass, or None for a header that is unusual or faulty."""
    tensors: list[TensorInfo] = []
    held: tuple[bytes, str] | None = None
    at, last, match = 1, b"", USUAL_TENSOR.match
    end = len(header) - _PREFIX + len(header[-_PREFIX:].rstrip(b" "))
    if len(header) - end != -end % _PREFIX or not header.startswith(b"{") or utf8_fault(header, end):
        return None
    while at < end:
        found = match(header, at, end)
        if found is None:
            name, behind = METADATA.encode(), at + len(METADATA_BEGIN)
            found = METADATA_END.search(header, behind, end) if header.startswith(METADATA_BEGIN, at) else None
            descriptor = None if found is None else string_bytes(header, behind, found.start())
            if found is None or descriptor is None:
                return None
            held = descriptor, found[1].decode()
        else:
            name, *offsets, code, sizes = found.groups()
            form, (first, over) = _form(code, sizes), map(int, offsets)
            if form is None or over - first != form[2]:
                return None
            tensors.append(TensorInfo(name.decode(), form[0], form[1], first, over))
        if not last < name:
            return None
        last, at = name, found.end()
    return (tensors, *held) if held is not None and header.endswith(b"}", 0, end) else None


@lru_cache(maxsize=1024)
def _form(code: bytes, sizes: bytes) -> tuple[str, tuple[int, ...], int] | None:
    """Return the dtype, the shape and the bytes of a usual tensor, or None if one is wrong."""
    dtype = dtypes.FROM_CODE.get(code.decode())
    if dtype is None or not USUAL_SHAPE.fullmatch(sizes):
        return None
    shape = tuple(map(int, sizes.split(b","))) if sizes else ()
    if shape_fault(shape, dtypes.ITEMSIZE[dtype]):
        return None
    return dtype, shape, numel(shape) * dtypes.ITEMSIZE[dtype]


def _descriptor(metadata: JsonText | None, refuse: Callable[..., ContainerError], hint: str) -> tuple[bytes, str]:
    """Return the descriptor and its recorded SHA-256. ``hint``: the next step if it is missing."""
    place = f"header.{METADATA}"
    held = dict(islice(metadata.members(), 3)) if metadata is not None and metadata.is_object else {}
    if METADATA_KEY not in held:
        raise refuse("metadata", place, "does not contain a lottapack descriptor", hint)
    if held.keys() != {METADATA_KEY, DIGEST_KEY} or not all(item.is_string for item in held.values()):
        raise refuse("metadata", place, f"should contain exactly {METADATA_KEY} and {DIGEST_KEY}, both strings")
    return held[METADATA_KEY].string_bytes(), held[DIGEST_KEY].string_bytes()[:65].decode(errors="replace")


def _entry_fault(entry: Any) -> tuple[str, str] | None:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        return "entry", "should have exactly dtype, shape and data_offsets"
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in dtypes.FROM_CODE:
        return "entry", f"unknown element type {json.dumps(entry['dtype'])[:40]}"
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(shape, list) or any(type(size) is not int for size in shape):
        return "shape", "the shape is not a list of integers"
    itemsize = dtypes.ITEMSIZE[dtypes.FROM_CODE[entry["dtype"]]]
    if fault := shape_fault(shape, itemsize):
        return "shape", fault
    if not isinstance(offsets, list) or len(offsets) != 2 or any(type(place) is not int for place in offsets):
        return "offsets", "data_offsets should be two integers"
    if offsets[1] - offsets[0] != numel(shape) * itemsize or offsets[0] < 0:
        return "offsets", f"data_offsets {offsets} do not fit shape {shape}"
    return None


def _check_layout(tensors: list[TensorInfo], data_size: int, source: str) -> None:
    """Refuse gaps, overlaps, leftover bytes and any other order. ``tensors``: in the order of their names."""
    if (end := sum(info.nbytes for info in tensors)) != data_size:
        message = f"the tensors need {end:,} bytes, but the file has {data_size:,}: truncated, or bytes were added"
        raise ContainerError(source, [Problem("offsets", "data", message)], hint="Get the file again.")
    tensors.sort(
        key=lambda info: -dtypes.ITEMSIZE[info.dtype]
    )  # a stable sort keeps tensors of one size in the order of names
    offset, wrong = 0, None
    for info in tensors:
        if info.begin != offset:
            wrong = info
            break
        offset = info.end
    if wrong is not None:
        tensors.sort(key=lambda info: (info.begin, info.end))
        tight = tensors[0].begin == 0 and all(a.end == b.begin for a, b in pairwise(tensors))
        kind, message = (
            ("canonical", "tensors are not in order") if tight else ("offsets", "tensors overlap or leave gaps")
        )
        raise ContainerError(
            source,
            [Problem(kind, f"header.{wrong.name[:200]}", message)],
            hint=GET_AGAIN,
        )


def open_binary(path: Path) -> BufferedReader:
    """Open a file for reading. Raises ContainerError if it is missing, unreadable or not a regular file."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # opening a pipe could block forever
            problem = Problem("length", "file", "Not a regular file")
            raise ContainerError(str(path), [problem], hint="Save the contents of a pipe as a file first.")
        return path.open("rb")
    except (OSError, ValueError) as fault:  # ValueError: the path holds a NUL
        hint, said = "Check the path.", getattr(fault, "strerror", None) or str(fault)
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir() raises for a folder that nobody may read
            hint, said = folder_hint(path), "is a folder that does not contain a pack"
        elif isinstance(fault, FileNotFoundError):
            hint = "Check the path. To get a pack from a registry, run lottapack pull."
        raise ContainerError(str(path), [Problem("length", "file", said)], hint=hint) from fault
