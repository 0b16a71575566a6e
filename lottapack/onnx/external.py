"""The weights that a graph takes from outside of it (spec: files, section 5)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lottapack.errors import CheckpointError
from lottapack.extras import require
from lottapack.format.dtypes import ITEMSIZE

LOCATION: Final = "lottapack"
"""Where the data of a weight lie, as a graph says it: in the pack."""

ELEMENTS: Final = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "bfloat16": 16,
}
"""ONNX's numbers of the format's dtypes (``TensorProto.DataType``)."""

AGAIN: Final = "Write it again: lottapack.onnx.export(pack, folder, weights='none')."
_OTHER_FORM = b"ORTM"
"""The bytes by which ONNX Runtime knows its own format, which it would run in place of the graph around them."""
_SHOWN = 200

_DTYPES = {number: name for name, number in ELEMENTS.items()}


@dataclass(frozen=True, slots=True)
class External:
    """A weight that a graph asks for."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * ITEMSIZE[self.dtype]


def externals(data: bytes, source: Path) -> tuple[dict[str, External], list[str]]:
    """Return the weights that a graph asks for, by name, and the names of all that it holds itself.

    Raises CheckpointError for what is not a graph, and for data that lie anywhere but in the pack: a runtime would read
    them from a path that the graph names.
    """
    onnx = require("onnx", "onnx", "a graph")
    if data[4:8] == _OTHER_FORM:
        raise CheckpointError(f"{source}: the graph is in ONNX Runtime's own format, not in ONNX", hint=AGAIN)
    try:
        model = onnx.load_model_from_string(data)
    except Exception as fault:
        raise CheckpointError(f"{source}: the graph cannot be read: {fault}", hint=AGAIN) from fault
    found, own = {}, []
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            one = External(_DTYPES.get(tensor.data_type, ""), tuple(tensor.dims))
            # No array is larger. A number of any length could not be written out.
            is_sane = one.dtype and one.nbytes < 1 << 63
            due = {"location": LOCATION, "offset": "0", "length": str(one.nbytes)} if is_sane else None
            if {entry.key: entry.value for entry in tensor.external_data} != due or len(tensor.external_data) != 3:
                raise _elsewhere(source, tensor)
            found[tensor.name] = one
        else:
            own.append(tensor.name)
    del model.graph.initializer[:]
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise _elsewhere(source, tensor)
        own.append(tensor.name)
    own += [name for node in model.graph.node if node.op_type == "Constant" for name in node.output]
    return found, own


def shown(name: str) -> str:
    """Return a graph's text for a message."""
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")


def _elsewhere(source: Path, tensor: Any) -> CheckpointError:
    location = {entry.key: entry.value for entry in tensor.external_data}.get("location", "nowhere")
    return CheckpointError(
        f"{source}: the graph reads {shown(tensor.name)} from {shown(location)}",
        hint="Only weights of the pack may lie outside a graph. Write it again with lottapack.onnx.export().",
    )


def _tensors(message: Any) -> Iterator[Any]:
    """Yield every TensorProto inside a message, wherever it stands."""
    pending = [message]
    while pending:
        one = pending.pop()
        if one.DESCRIPTOR.name == "TensorProto":
            yield one
            continue
        for field, value in one.ListFields():
            if field.message_type is not None:
                pending += [value] if hasattr(value, "DESCRIPTOR") else list(value)
