"""The tensors that a descriptor calls for (spec: container, section 5; refusals, section 3)."""

from collections.abc import Iterator

from lottapack.errors import Problem
from lottapack.format import codings, dtypes
from lottapack.format.container import TensorInfo
from lottapack.format.descriptor import (
    Adapted,
    Descriptor,
    Parameter,
    Stored,
    adapter_prefix,
    adapter_shapes,
    factor_dims,
    table_tensor,
)
from lottapack.format.shapes import numel


def expected_tensors(descriptor: Descriptor) -> Iterator[tuple[str, str, str, tuple[int, ...] | None, str]]:
    """Yield (tensor, owner, dtype, shape, sha256) for each tensor that the descriptor calls for.

    The shape of a compressed tensor is None: only the file knows its size.
    """
    for table_id, table in descriptor.rng.tables.items():
        yield table_tensor(table_id), f"rng.tables.{table_id}", "float32", (2**table.bits,), table.sha256
    for name, entry in descriptor.parameters.items():
        coding = codings.coding_of(entry)
        if isinstance(entry, Stored) and coding is not None:
            for part, dtype, shape, sha256 in codings.coded_tensors(entry, coding):
                yield f"{name}.{part}", name, dtype, shape, sha256
        elif isinstance(entry, Stored):
            yield name, name, entry.dtype, entry.shape, entry.sha256
        elif isinstance(entry, Adapted):
            d_out, d_in = factor_dims(entry.shape, entry.fan_in_fan_out)
            shapes = adapter_shapes(entry.rank, d_out, d_in)
            for part, tensor in entry.adapter.tensors().items():
                yield adapter_prefix(name) + part, name, tensor.dtype, shapes[part], tensor.sha256


def compressed_faults(name: str, entry: Parameter, info: TensorInfo) -> Iterator[Problem]:
    """A compressed tensor is as large as it likes, but a parameter that it cannot hold is refused at once."""
    assert isinstance(entry, Stored)
    size = numel(entry.shape) * dtypes.ITEMSIZE[entry.dtype]
    if info.dtype != "uint8" or len(info.shape) != 1:
        found = f"{info.dtype} {list(info.shape)}"
        yield Problem("mismatch", info.name, f"the file holds {found}, and a compressed tensor is a row of uint8")
    elif size > codings.MOST_GROWTH * info.nbytes:
        yield Problem("mismatch", info.name, f"{info.nbytes:,} bytes cannot decompress to the {size:,} of {name}")
