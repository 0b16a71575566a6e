"""Compute the memory of a loaded model from the header of its pack."""

from collections.abc import Iterable
from heapq import nlargest

from lottapack.format import dtypes
from lottapack.format.coded import CodedTensor, is_drawn
from lottapack.format.codings import SLICE
from lottapack.format.container import TensorInfo
from lottapack.format.descriptor import FACTORS, Adapted, Coding, Seeded
from lottapack.format.packfile import PackFile
from lottapack.format.shapes import numel
from lottapack.products import IN_REGISTERS
from lottapack.rng import TORCH_CPU
from lottapack.rng.threads import default

_BINARY32 = dtypes.ITEMSIZE["float32"]


def loaded_bytes(pack: PackFile, dtype: str | None = None, *, merge: bool = False, without: Iterable[str] = ()) -> int:
    """Return the bytes of the model that load() returns, including adapters that are not merged.

    ``dtype``: the dtype of floating tensors, if not the recorded one. ``without``: weights that take no memory. With
    ``merge``, the factors that the seed gives count too, for each thread those of one weight.
    """
    kept = {} if merge else adapter_dtypes(pack, dtype)
    sizes = [numel(info.shape) * dtypes.ITEMSIZE[of] for info, of in kept.items()]
    sizes.append(largest_drawn(pack, default()) if merge else _shared_bytes(pack))
    return pack.declared_bytes(dtype) + sum(sizes) - sum(pack.declared_bytes_of(name, dtype) for name in without)


def peak_bytes(pack: PackFile) -> int:
    """Return the bytes of the rebuilt plain model and of the factors that the seed gives one of its weights at a time.

    The file holds nothing for such factors, so that its size says nothing about them.
    """
    return pack.declared_bytes() + largest_drawn(pack)


def largest_drawn(pack: PackFile, at_once: int = 1) -> int:
    """Return the bytes of the factors that the seed gives, of the weights with the most.

    Beside each lies its copy in binary32, and the product of that with a vector. ``at_once``: the weights that are
    merged at the same time.
    """
    adapters = [pack.adapter(name) for name, entry in pack.descriptor.parameters.items() if isinstance(entry, Adapted)]
    drawn = (
        sum(_bytes_of(info) + 2 * _BINARY32 * numel(info.shape) for info in adapter.values() if is_drawn(info))
        for adapter in adapters
    )
    return sum(nlargest(at_once, drawn)) + _shared_bytes(pack)


def _shared_bytes(pack: PackFile) -> int:
    """Return the bytes of the factors of which others are parts: the largest of each kind, since a reader keeps two."""
    owned = {
        (part, str(tensor.coding.of))
        for entry in pack.descriptor.parameters.values()
        if isinstance(entry, Adapted)
        for part, tensor in entry.adapter.tensors().items()
        if isinstance(tensor.coding, Coding) and tensor.coding.id == SLICE
    }
    sizes = sorted(_bytes_of(pack.adapter(owner)[part]) for part, owner in owned)
    return sum(sizes[-len(FACTORS) :])


def _bytes_of(held: TensorInfo | CodedTensor) -> int:
    return numel(held.shape) * dtypes.ITEMSIZE[held.dtype]


def adapter_dtypes(pack: PackFile, dtype: str | None) -> dict[TensorInfo | CodedTensor, str]:
    """Return the dtypes in which the tensors of adapters are loaded.

    An adapter that is stored narrower than its float32 layer is loaded as float32, which is exact.
    """
    loaded_as: dict[TensorInfo | CodedTensor, str] = {}
    adapted = [(name, entry) for name, entry in pack.descriptor.parameters.items() if isinstance(entry, Adapted)]
    for name, entry in adapted:
        for info in pack.adapter(name).values():
            loaded_as[info] = dtype or ("float32" if entry.dtype == "float32" else info.dtype)
    return loaded_as


def memory_by_backbone(pack: PackFile) -> dict[str, int]:
    """Return the bytes of the loaded model for each kind of backbone that load() can use for it.

    ``virtual`` appears if a kernel supports the table of any weights; these take no memory. ``blocks`` appears unless
    torch drew the weights; the size of the block in memory is not counted, because the user chooses it.
    """
    parameters = pack.descriptor.parameters.items()
    generated = {name: e.distribution for name, e in parameters if isinstance(e, Seeded | Adapted)}
    parts = {} if pack.descriptor.rng.id == TORCH_CPU else generated
    quick = [name for name, table in parts.items() if table in IN_REGISTERS]
    ways: dict[str, Iterable[str]] = {"virtual": quick, "blocks": parts}
    return {"materialised": loaded_bytes(pack)} | {
        way: loaded_bytes(pack, without=names) for way, names in ways.items() if names
    }
