"""How much memory a loaded model takes, from the header of its pack alone."""

from collections.abc import Iterable

from lottapack.format import dtypes
from lottapack.format.coded import CodedTensor
from lottapack.format.container import TensorInfo
from lottapack.format.descriptor import Adapted, Seeded
from lottapack.format.packfile import PackFile
from lottapack.format.shapes import numel
from lottapack.products import IN_REGISTERS
from lottapack.rng import TORCH_CPU


def loaded_bytes(pack: PackFile, dtype: str | None = None, *, merge: bool = False, without: Iterable[str] = ()) -> int:
    """Bytes of the model that load() gives, with its adapters if they stay.

    ``dtype``: of floating tensors, if not as recorded. ``without``: weights that are in no memory.
    """
    kept = {} if merge else adapter_dtypes(pack, dtype)
    sizes = [numel(info.shape) * dtypes.ITEMSIZE[of] for info, of in kept.items()]
    return pack.declared_bytes(dtype) + sum(sizes) - sum(pack.declared_bytes_of(name, dtype) for name in without)


def adapter_dtypes(pack: PackFile, dtype: str | None) -> dict[TensorInfo | CodedTensor, str]:
    """The dtypes that the tensors of adapters are loaded in.

    An adapter that is kept narrower than its float32 layer computes in float32, which is exact.
    """
    found: dict[TensorInfo | CodedTensor, str] = {}
    adapted = [(name, entry) for name, entry in pack.descriptor.parameters.items() if isinstance(entry, Adapted)]
    for name, entry in adapted:
        for info in pack.adapter(name).values():
            found[info] = dtype or ("float32" if entry.dtype == "float32" else info.dtype)
    return found


def memory_by_backbone(pack: PackFile) -> dict[str, int]:
    """Bytes of the loaded model by what load() can be told of the backbone.

    ``virtual``, if any weights are of a table with a kernel for it: these are in no memory. ``blocks``, unless torch
    drew the weights: none is; the block that is there at a time is not counted, as its size is the user's choice.
    """
    parameters = pack.descriptor.parameters.items()
    generated = {name: e.distribution for name, e in parameters if isinstance(e, Seeded | Adapted)}
    parts = {} if pack.descriptor.rng.id == TORCH_CPU else generated
    quick = [name for name, table in parts.items() if table in IN_REGISTERS]
    ways: dict[str, Iterable[str]] = {"virtual": quick, "blocks": parts}
    return {"materialised": loaded_bytes(pack)} | {
        way: loaded_bytes(pack, without=names) for way, names in ways.items() if names
    }
