"""The file: container.md. Its pieces are apart, so that a faulty file can be put together from sound ones."""

import hashlib
from dataclasses import dataclass
from typing import Any

from .canonical import canonical

# descriptor dtype: (safetensors, bytes); container.md, section 2
TYPES = {
    "float64": ("F64", 8),
    "int64": ("I64", 8),
    "float32": ("F32", 4),
    "int32": ("I32", 4),
    "float16": ("F16", 2),
    "bfloat16": ("BF16", 2),
    "int16": ("I16", 2),
    "int8": ("I8", 1),
    "uint8": ("U8", 1),
    "bool": ("BOOL", 1),
}


@dataclass(frozen=True)
class Tensor:
    """A tensor as it lies in a file."""

    dtype: str
    shape: list[int]
    data: bytes

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes."""
        return hashlib.sha256(self.data).hexdigest()


def in_order(tensors: dict[str, Tensor]) -> list[str]:
    """The names in the order of the data: by decreasing element size, then by name."""
    return sorted(tensors, key=lambda name: (-TYPES[tensors[name].dtype][1], name))


def layout(tensors: dict[str, Tensor], order: list[str] | None = None) -> tuple[dict[str, Any], bytes]:
    """The entries of the header, and the data."""
    entries, data = {}, b""
    for name in order or in_order(tensors):
        tensor = tensors[name]
        begin, data = len(data), data + tensor.data
        entries[name] = {
            "dtype": TYPES[tensor.dtype][0],
            "shape": tensor.shape,
            "data_offsets": [begin, len(data)],
        }
    return entries, data


def metadata(descriptor: bytes) -> dict[str, Any]:
    """``__metadata__`` for the text of a descriptor."""
    return {"lottapack": descriptor.decode(), "lottapack.sha256": hashlib.sha256(descriptor).hexdigest()}


def assemble(header: dict[str, Any] | bytes, data: bytes, *, length: int | None = None) -> bytes:
    """Length, header (text, or an object to be written), padding and data."""
    text = header if isinstance(header, bytes) else canonical(header)
    text += b" " * (-len(text) % 8)
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def file(descriptor: bytes, tensors: dict[str, Tensor]) -> bytes:
    """A whole pack."""
    entries, data = layout(tensors)
    return assemble({**entries, "__metadata__": metadata(descriptor)}, data)
