"""load(): turn a pack into a ready module."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from os import PathLike
from typing import Final

import torch
from torch import Tensor, nn

from lottapack.arch.skeleton import computed_buffers
from lottapack.device import resolve
from lottapack.errors import UnsupportedError
from lottapack.flags import require_flags
from lottapack.folders import bases, companions
from lottapack.format import dtypes, recipe
from lottapack.format.descriptor import Adapted, Constant, Seeded, Stored
from lottapack.format.packfile import Held, PackFile
from lottapack.format.shapes import numel
from lottapack.limits import check_memory
from lottapack.loading.background import Background
from lottapack.loading.reading import Reading
from lottapack.nn.attach import attach, locate, place, tie_all
from lottapack.nn.backbones import MATERIALISED, Backbone, choose, require_forms, settle, virtualise, with_forms
from lottapack.nn.changes import note_samples
from lottapack.nn.local import exclude_from_ddp
from lottapack.nn.skeletons import skeleton_of
from lottapack.rng import backends
from lottapack.rng.huge_pages import HugePages
from lottapack.rng.threads import run_all
from lottapack.weights.constructed import constructed_weights, is_constructed
from lottapack.weights.loaded_size import adapter_dtypes, loaded_bytes
from lottapack.weights.rebuild import (
    check_generated,
    constant_tensor,
    empty_backbone,
    generate,
    generate_all,
    generate_merged,
    is_recorded_dtype,
    merge_generated_,
    stored_memory,
    stored_tensor,
)

_log = logging.getLogger(__name__)

Named = tuple[str, Tensor]
_LARGE = 1 << 25  # elements
_BATCH: Final = 1 << 16
"""The elements of small tensors that a thread reads one after the other."""
_READERS: Final = 8
"""The most threads that decode at once: each holds the coded bytes of a tensor beside its values."""
_WAYS_OUT = (
    "Load it in a smaller `dtype` such as bfloat16, with `merge`, or on another `device`. If you trust the pack and "
    "know better what is free, pass a larger `max_bytes`."
)


@torch.inference_mode(False)
@torch.no_grad()
def load(
    path: str | PathLike[str],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    merge: bool = False,
    scaffold: str | None = None,
    backbone: Backbone = MATERIALISED,
    check_fingerprints: bool = False,
    max_bytes: int | None = None,
    allow: str | Iterable[str] = (),
    require_signature: str | PathLike[str] | None = None,
) -> nn.Module:
    """Rebuild the model of a pack on a device, in evaluation mode. The backbone has the same bits on every device.

    Args:
        path: the pack; or a reference, ``owner/name@revision`` or ``oci://host/repository:tag``, which is first pulled
            into the cache. An existing file takes precedence over a repository of that name.
        device: where the weights are generated, in place. No tensor is ever in memory twice, and the backbone is
            nowhere else (except that of a ``torch-cpu`` pack, which the CPU draws). Merging and converting need a few
            more MiB and, on the CPU, the largest coded parameter that is converted.
        dtype: a torch.dtype or its name, to which floating tensors are converted; None keeps the recorded one.
        merge: return the plain model with merged weights; otherwise layers keep their adapters and can be trained on.
        scaffold: the name of one of the pack's scaffolds; by default that of its main seed. A model that is not merged
            can change to another one later with switch().
        backbone: ``"materialised"``; or ``"virtual"``: weights take no memory but are generated in registers at each
            product, forward and backward, which is quick for ``sign1``; or ``"blocks"``: weights of any table are
            generated a block at a time, multiplied and dropped. Or a mapping from names or patterns of layers to these,
            such as ``{"*.mlp.*": "blocks"}`` (others are materialised), or a function of a weight's name and shape.
        check_fingerprints: compare every rebuilt tensor with its fingerprint. (The SHA-256 of each tensor in the
            file is always checked.)
        max_bytes: the largest model to accept; by default the device's free memory. It is checked before any memory is
            allocated. For weights that are not materialised it counts the largest block, which gets what the rest
            leaves.
        allow: packages or modules whose code you trust, for packs of the family ``python``: ``["ncps"]`` allows
            ``ncps`` and everything inside it. Nothing else is imported, whatever the pack says.
        require_signature: a public key in PEM. ``<pack>.sig`` must be a signature of this file by its private key.
            Exactly the signed bytes are loaded, even if someone writes to the file meanwhile.

    Raises:
        FormatError, IntegrityError, LimitError, ArchitectureError, UnsupportedError, DeviceError: the pack is invalid,
            too large, or cannot be rebuilt here.
        NotAllowedError: the pack needs to import what ``allow`` does not include.
        ScaffoldError: the pack does not have the named scaffold, or ``backbone`` names an unknown mode or layer.
        UnsupportedError: a layer does not support the chosen backbone; the message names the first one.
        SignatureError, InvalidKeyError: with ``require_signature``.
        InvalidReferenceError, RegistryError: for a reference.

    Source:
        spec/v1/stream.md, spec/v1/merge.md and spec/v1/refusals.md.

    Examples:
        >>> model = lottapack.load("model.lotta.safetensors")
        >>> model(torch.ones(1, 16)).shape
        torch.Size([1, 4])
        >>> plain = lottapack.load("model.lotta.safetensors", merge=True, dtype=torch.bfloat16)
        >>> plain[0]
        Linear(in_features=16, out_features=32, bias=True)
    """
    require_flags(merge=merge, check_fingerprints=check_fingerprints)
    target = resolve(device)
    name = None if dtype is None else dtypes.floating_name(dtype)
    dtype = None if name is None else dtypes.torch_dtype(name)
    reading = Reading(scaffold, max_bytes, allow, require_signature, check_fingerprints)
    with reading.open(path) as pack:
        virtual = _choose(pack, backbone, merge=merge)
        needed = loaded_bytes(pack, name, merge=merge, without=virtual)
        check_memory(str(path), needed, max_bytes, target, hint=_WAYS_OUT)
        if _log.isEnabledFor(logging.INFO):
            _log.info("%s: onto %s, %s; weights by %s", pack.path, target, _way(virtual, merge), _maker(pack, target))
        rebuild = _Rebuild(pack, target, dtype, merge, check_fingerprints, virtual)
        with rebuild.reading() as read:
            model, _, plan = skeleton_of(pack, max_bytes)
            if not merge:
                forms = with_forms(model, plan, virtual, backbone)
                if forms != virtual:
                    virtual = rebuild.virtual = forms
                    needed = loaded_bytes(pack, name, without=virtual)
                    check_memory(str(path), needed, max_bytes, target, hint=_WAYS_OUT)
                left = None if max_bytes is None else max_bytes - needed
                require_forms(model, plan, virtual, left)
                attach(model, plan, scaffold=pack.scaffold)
                virtualise(model, plan, virtual, left)
                settle(model, target, dtype)
            for tensor_name, tensor in [*rebuild.generated(), *read()]:
                place(model, tensor_name, tensor)
        if merge:
            bases.remember_pack(model, pack)
        companions.carry(model, pack)
    tie_all(model, plan)
    for buffer_name, buffer in list(computed_buffers(model)):
        module, leaf = locate(model, buffer_name)
        follows = buffer_name in (pack.descriptor.computed or {})
        module._buffers[leaf] = buffer.to(target, dtype if follows else None)
    if not merge:
        model._buffers[recipe.BUFFER] = model.get_buffer(recipe.BUFFER).to(target)
        note_samples(model, plan)
    return exclude_from_ddp(model).eval()


def _choose(pack: PackFile, backbone: Backbone, *, merge: bool) -> dict[str, str]:
    """Return the mode of each weight that is not materialised."""
    parameters = pack.descriptor.parameters.items()
    generated = {n: (e.shape, e.distribution) for n, e in parameters if isinstance(e, Seeded | Adapted)}
    modes = {} if backbone == MATERIALISED else choose(backbone, generated)
    if modes and merge:
        name = next(iter(modes))
        raise UnsupportedError(
            f"{name} cannot be {modes[name]}: merging an adapter into it needs its weight in memory",
            hint=f'Leave out `merge`, or backbone="{modes[name]}".',
        )
    return modes


def _way(virtual: dict[str, str], merge: bool) -> str:
    """Return in words which weights are virtual, and whether adapters are merged."""
    modes = sorted(set(virtual.values()))
    count = f"{len(virtual)} weights {' or '.join(modes)}" if virtual else "backbone materialised"
    return f"{count}, adapters merged" if merge else count


def _maker(pack: PackFile, device: torch.device) -> str:
    """Return the name of the backend that generates the weights on a device."""
    return "torch" if is_constructed(pack) else backends.select(device).name


class _Rebuild:
    """Rebuilds the tensors of one load, and converts each as soon as it is generated."""

    def __init__(
        self,
        pack: PackFile,
        device: torch.device,
        dtype: torch.dtype | None,
        merge: bool,
        check: bool,
        virtual: Mapping[str, str],
    ) -> None:
        self.pack, self.device, self.dtype = pack, device, dtype
        self.merge, self.check, self.virtual = merge, check, virtual
        self.pages = HugePages()
        self.entries = pack.descriptor.parameters

    @contextmanager
    def reading(self) -> Iterator[Callable[[], list[Named]]]:
        """Read and hash the file's tensors in other threads, until the yielded function returns them.

        Hashing and decoding take as long as much of the generating and do not hold the interpreter's lock, so they run
        while the module is built. The largest are first, so that all threads end at about the same time; tensors that
        are read as they are wait for the disk and need one thread. When the results are due, the caller's thread helps.
        """
        wanted: dict[Held, torch.dtype | None]
        wanted = {name: self.dtype for name, entry in self.entries.items() if isinstance(entry, Stored)}
        if not self.merge:
            dtype_name = None if self.dtype is None else dtypes.dtype_name(self.dtype)
            wanted |= {info: dtypes.torch_dtype(dtype) for info, dtype in adapter_dtypes(self.pack, dtype_name).items()}
        decoded = [held for held in wanted if self.pack.coded(held) is not None]
        order = sorted(decoded, key=lambda held: -numel(self.pack.form(held)[1]))
        batches = [[held] for held in order] + self._batches([h for h in wanted if self.pack.coded(h) is None])
        tasks = Background(
            partial(self._read, [(held, wanted[held], self._memory_of(held, wanted[held])) for held in batch])
            for batch in batches
        )
        with ThreadPoolExecutor(threads := max(1, min(torch.get_num_threads(), len(decoded), _READERS))) as reader:
            try:
                for _ in range(threads):
                    reader.submit(tasks.run)
                yield lambda: [named for batch in tasks.results() for named in batch]
            finally:
                tasks.stop()

    def _batches(self, plain: list[Held]) -> list[list[Held]]:
        """Put small tensors together, because starting a task takes longer than reading one of them."""
        batches, space = list[list[Held]](), 0
        for held in plain:
            size = numel(self.pack.form(held)[1])
            if size > space or not batches:
                batches.append([])
                space = _BATCH
            batches[-1].append(held)
            space -= size
        return batches

    def _memory_of(self, held: Held, dtype: torch.dtype | None) -> Tensor | None:
        """Request the memory of a tensor to read, for the reasons of _in_threads()."""
        memory = stored_memory(self.pack, held, self.device, dtype)
        return None if memory is None else self.pages.advise(memory)

    def _read(self, batch: list[tuple[Held, torch.dtype | None, Tensor | None]]) -> list[Named]:
        results = []
        for held, dtype, memory in batch:
            if memory is not None:
                self.pages.touch(memory)
            tensor = stored_tensor(self.pack, held, self.device, dtype, memory)
            results.append((held if isinstance(held, str) else held.name, tensor))
        return results

    def generated(self) -> list[Named]:
        """Return backbones (merged if requested) and constants."""
        weights = [n for n, e in self.entries.items() if isinstance(e, Seeded | Adapted) and n not in self.virtual]
        if self.check:
            for name in self.virtual:
                check_generated(self.pack, name, self.device)
        constants = [
            (name, constant_tensor(entry, self.device, dtype=self.dtype))
            for name, entry in self.entries.items()
            if isinstance(entry, Constant)
        ]
        if is_constructed(self.pack):
            constructed_weights(self.pack)  # in this thread, where the caller's `allow` applies
        at_once = self.device.type != "cpu" or backends.select(self.device).generate is not None
        return constants + (self._at_once(weights) if at_once else self._in_threads(weights))

    def _at_once(self, names: list[str]) -> list[Named]:
        """Allocate all memory first, so that one launch can fill it; then merge adapters in place."""
        memory = {name: self._memory(name) for name in names}
        recorded = {name: weight for name, weight in memory.items() if is_recorded_dtype(self.pack, name, weight)}
        generate_all(self.pack, recorded, check=self.check)
        for name, weight in memory.items():
            if name not in recorded:
                self._one(name, weight)
            elif self.merge:
                merge_generated_(self.pack, name, weight)
        return list(memory.items())

    def _in_threads(self, names: list[str]) -> list[Named]:
        """Rebuild one tensor in each thread; only a tensor that is large enough for all threads is shared."""
        sizes = {name: numel(self.pack.descriptor.parameters[name].shape) for name in names}  # type: ignore[union-attr]
        names = sorted(names, key=lambda name: -sizes[name])
        large = [name for name in names if sizes[name] > _LARGE]
        # Memory is requested here: in the threads, each request would wait for the page faults of the others, and a
        # huge page may span neighbours. (In small pages, page faults took 0.39 s of the CPU time of a 300M Llama,
        # generating 0.14, hashing 0.06 and building 0.035; a clone of its checkpoint has the same faults, and copies
        # in 0.08. Mapping small pages ahead with MADV_POPULATE_WRITE does not help.)
        tasks = [partial(self._one, name, self._memory(name)) for name in names[len(large) :]]
        return [self._one(name, self._memory(name)) for name in large] + run_all(tasks, torch.get_num_threads())

    @torch.no_grad()
    def _one(self, name: str, memory: Tensor) -> Named:
        make = generate_merged if self.merge else generate
        return name, make(self.pack, name, self.pages.touch(memory), check=self.check)

    def _memory(self, name: str) -> Tensor:
        return self.pages.advise(empty_backbone(self.pack, name, self.device, self.dtype))
