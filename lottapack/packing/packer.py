"""Write a recipe and tensors to one file."""

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from importlib import metadata
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from lottapack import arch, rng
from lottapack.arch.drawn import require_versions, versions
from lottapack.errors import CheckpointError, OutputError
from lottapack.files.output import atomic_file
from lottapack.folders import checkpoint
from lottapack.folders.bits import constant_bits, same_bits
from lottapack.folders.companions import Embedded, encoded
from lottapack.folders.states import LeftOut
from lottapack.format import container, dtypes, expected
from lottapack.format.codings import SEEDED, SLICE
from lottapack.format.descriptor import (
    FORMAT_VERSION,
    Adapted,
    Adapter,
    Architecture,
    Coding,
    Constant,
    Descriptor,
    FileRecord,
    Parameter,
    Rng,
    Seeded,
    TableRecord,
    TensorRecord,
    Tied,
)
from lottapack.format.factors import adapter_shapes
from lottapack.format.fingerprints import of_source, scaffold_records
from lottapack.format.names import adapter_prefix, table_tensor
from lottapack.format.packfile import open_pack
from lottapack.format.recipe import AdaptedRecipe, Recipe, SeededRecipe, StoredRecipe, TiedRecipe, name_clashes
from lottapack.format.results import Result, in_json
from lottapack.format.shapes import numel
from lottapack.nn.changes import is_as_drawn
from lottapack.packing.costs import Cost, costs
from lottapack.packing.pack_result import PackCheck, PackResult, warn_of_changes
from lottapack.packing.recovered import Layer
from lottapack.packing.reparametrised import lacking, left_over
from lottapack.packing.storing import Storage
from lottapack.progress import Progress
from lottapack.version import __version__
from lottapack.weights.constructed import drawn_state
from lottapack.weights.merge import merge_adapter
from lottapack.weights.rebuild import tensor_bytes

_OWN_TENSORS = "Pack the tensors of the model that the recipe describes."


class Packer:
    """Collects the entries of the descriptor and the tensors of the file."""

    def __init__(
        self,
        plan: Recipe,
        tensors: dict[str, Tensor],
        progress: Progress | None = None,
        *,
        stored_instead: Mapping[str, int] | None = None,
        constructed: Mapping[str, Tensor] | None = None,
        storage: Storage | None = None,
        leaving: LeftOut | None = None,
        allow_nonfinite: bool = False,
        files: Embedded | None = None,
        results: tuple[Result, ...] = (),
        check: PackCheck | None = None,
        layers: tuple[Layer, ...] = (),
    ) -> None:
        """``stored_instead``: known differences; ``constructed``: torch's weights; ``files``: beside the model."""
        self.check = check
        self.layers = layers
        self._require_finite = (lambda *_, **__: None) if allow_nonfinite else checkpoint.require_finite
        self.leaving = LeftOut() if leaving is None else leaving
        self.storage = storage or Storage()
        self.plan = plan
        self.given = tensors
        self.used: set[str] = set()
        self.sources = plan.sources()
        self.seeds = list(plan.seeds.values())  # a backbone in the checkpoint may be on any scaffold
        self.by_torch = plan.rng.id == rng.TORCH_CPU
        self.constructed = constructed or (drawn_state(plan.architecture, plan.seed) if self.by_torch else {})
        self.tensors: dict[str, Tensor] = {}
        self.stored_instead: dict[str, int] = dict(stored_instead or {})
        self.rounded: list[str] = []
        self.progress = progress
        self.files = files or Embedded()
        self.results = results

    def write(self, path: Path) -> PackResult:
        """Write the pack in one step, after it has been read back."""
        descriptor, placed = self._prepared
        with atomic_file(path) as file:
            container.write(
                file, container.pack_metadata(descriptor), placed, lambda name: tensor_bytes(self.tensors[name])
            )
            file.flush()
            size, digest = self._check(Path(file.name), descriptor)
            checked = self.check(Path(file.name)) if self.check else None
        self.stored_instead |= {kept.name: kept.size for kept in self.storage.kept if kept.name in self.stored_instead}
        self.storage.warn_of_unused()
        warn_of_changes(self.stored_instead, self.plan.seed, self.by_torch, self.rounded)
        taken = {kept.name: kept.size for kept in self.storage.kept}
        return PackResult(
            path,
            size,
            digest,
            self.stored_instead,
            kept=tuple(self.storage.kept),
            left_out=tuple(self.leaving.names),
            files=self.files.sizes,
            files_left=self.files.left,
            checked=checked,
            costs=self._costs(),
            layers=tuple(replace(layer, size=taken.get(layer.name, layer.size)) for layer in self.layers),
        )

    def _costs(self) -> tuple[Cost, ...]:
        return costs(self.storage.seen) if self.storage.max_error is not None else ()

    def size(self) -> int:
        """Return the bytes of the pack, which is then ready to be written."""
        descriptor, placed = self._prepared
        header = container.header_bytes(placed, container.pack_metadata(descriptor))
        return len(header) + sum(info.nbytes for info in placed)

    @cached_property
    def _prepared(self) -> tuple[bytes, list[container.TensorInfo]]:
        """The descriptor, and the positions of the tensors."""
        made = self._descriptor()
        _require_names(expected.name_clashes(made))  # codings add names
        descriptor = made.to_bytes()
        self.storage.check()
        placed = container.layout(
            (name, dtypes.dtype_name(tensor.dtype), tuple(tensor.shape)) for name, tensor in self.tensors.items()
        )
        return descriptor, placed

    def _check(self, written: Path, descriptor: bytes) -> tuple[int, str]:
        """Read the written file back before it gets its final name."""
        with open_pack(written) as pack:
            if pack.descriptor.to_bytes() != descriptor:
                raise OutputError(f"{written}: the descriptor reads back differently", hint="Please report this.")
            pack.check_tensors()
            return pack.file_size, pack.file_sha256()

    def _descriptor(self) -> Descriptor:
        _require_names(name_clashes(self.plan))
        parameters: dict[str, Parameter] = {}
        tables = {}
        for table_id, table in self.plan.tables().items():
            values = torch.from_numpy(table.values.copy())
            tables[table_id] = TableRecord(bits=table.bits, sha256=self._keep(table_tensor(table_id), values).sha256)
        self.used |= checkpoint.reconcile_ties(self.plan, self.given)
        work = {
            name: numel(entry.shape) if isinstance(entry, AdaptedRecipe | SeededRecipe) else 0
            for name, entry in self.plan.parameters.items()
        }
        done, total = 0, sum(work.values()) * len(self.plan.seeds)
        tell = self.progress or (lambda *_: None)
        for name, entry in sorted(self.plan.parameters.items()):
            parameters[name] = self._parameter(name, entry)
            done += work[name]
            tell(done, total)
        parameters = {name: self._with_owners(name, entry, parameters) for name, entry in parameters.items()}
        left = self.leaving.rest(sorted(self.given.keys() - self.used))
        self.leaving.require_used()
        if left:
            raise left_over(left)
        return Descriptor(
            lottapack=FORMAT_VERSION,
            architecture=self.plan.architecture,
            rng=Rng(
                id=self.plan.rng.id,
                seed=self.plan.rng.seed,
                tables=tables,
                scaffolds=scaffold_records(self.plan, parameters, lambda more: tell(done + more, total)),
                **self._versions(),
            ),
            parameters=parameters,
            provenance=_provenance(self.plan.architecture),
            computed=self.plan.computed or msgspec.UNSET,
            files={name: self._file(name, data) for name, data in self.files.held.items()} or msgspec.UNSET,
            results=in_json(self.results) or msgspec.UNSET,
        )

    def _file(self, name: str, data: bytes) -> FileRecord:
        record, held = encoded(data)
        made = (
            torch.frombuffer(bytearray(held), dtype=torch.uint8)
            if held
            else torch.empty(0, dtype=torch.uint8, device="cpu")
        )
        self._keep(expected.expected_file(name, record).name, made)
        return record

    def _versions(self) -> dict[str, str]:
        """Return the versions with which torch drew the weights, if it did."""
        return dict(zip(("torch", "capability"), versions(), strict=True)) if self.by_torch else {}

    def _parameter(self, name: str, entry: "AdaptedRecipe | SeededRecipe | StoredRecipe | TiedRecipe") -> Parameter:
        if isinstance(entry, TiedRecipe):
            return Tied(to=entry.to)
        if isinstance(entry, StoredRecipe):
            tensor = self._take(name, None)
            self._require_finite(name, tensor, infinity=entry.trained)
            return self._stored(name, tensor, entry)
        weight = self.given.get(name)
        self.used.add(name)
        if weight is not None and not self._same_as_generated(name, entry, weight):
            return self._changed(name, entry, weight)
        fingerprint = self._fingerprint(name, entry, weight is not None)
        if isinstance(entry, SeededRecipe):
            return Seeded(
                **entry.drawn,
                fingerprint=fingerprint,
            )
        return Adapted(
            **entry.drawn,
            fingerprint=fingerprint,
            fan_in_fan_out=entry.fan_in_fan_out,
            rank=entry.rank,
            alpha=entry.alpha,
            scaling=entry.scaling,
            batch_dims=entry.batch_dims,
            shared_factor=entry.shared_factor,
            adapter=Adapter(
                **{
                    part: self._drawn_part(name, part, tensor)
                    or self._slice_part(entry, part, tensor)
                    or self._own_part(name, entry, part, tensor)
                    for part, tensor in self._adapter(name, entry).items()
                }
            ),
        )

    def _drawn_part(self, name: str, part: str, tensor: Tensor) -> TensorRecord | None:
        """The record of a tensor of an adapter that is as the seed gives it; None for any other."""
        dtype = dtypes.dtype_name(tensor.dtype)
        source = self.plan.adapter_sources(name, dtype).get(part)
        if source is None:
            return None
        held = tensor.detach().cpu().contiguous()
        if not same_bits(rng.fill_(torch.empty_like(held), source), held):
            return None
        coding = Coding(id=SEEDED, distribution=source.table.id, scale=source.scale)
        return TensorRecord(dtype=dtype, sha256=hashlib.sha256(tensor_bytes(held)).hexdigest(), coding=coding)

    def _slice_part(self, entry: AdaptedRecipe, part: str, tensor: Tensor) -> TensorRecord | None:
        """The record of a factor that is part of another adapter's, as the recipe says; None for any other."""
        owner = (entry.slices or {}).get(part)
        whole = None if owner is None else self.given.get(adapter_prefix(owner) + part)
        if whole is None or whole.dtype != tensor.dtype:
            return None
        held = tensor.detach().cpu().contiguous()
        if not same_bits(whole.detach()[: held.shape[0], : held.shape[1]].cpu().contiguous(), held):
            return None
        coding = Coding(id=SLICE, of=str(owner))
        digest = hashlib.sha256(tensor_bytes(held)).hexdigest()
        return TensorRecord(dtype=dtypes.dtype_name(tensor.dtype), sha256=digest, coding=coding)

    def _own_part(self, name: str, entry: AdaptedRecipe, part: str, tensor: Tensor) -> TensorRecord:
        """Return the record of a tensor of an adapter that the file holds.

        Frozen tensors, and factors of which others are parts, keep their bits.
        """
        whole = adapter_prefix(name) + part
        if part in entry.frozen or whole in self._owned:
            return self._keep(whole, tensor)
        return self.storage.adapter(whole, tensor, self._keep)

    @cached_property
    def _owned(self) -> frozenset[str]:
        """The factors of which others are parts."""
        entries = (entry for entry in self.plan.parameters.values() if isinstance(entry, AdaptedRecipe))
        slices = (item for entry in entries for item in (entry.slices or {}).items())
        return frozenset(adapter_prefix(owner) + part for part, owner in slices)

    def _with_owners(self, name: str, entry: Parameter, parameters: Mapping[str, Parameter]) -> Parameter:
        """Return the entry with factors of its own where their owner's weight was stored without an adapter."""
        if not isinstance(entry, Adapted):
            return entry
        lost = {
            part: self._keep(adapter_prefix(name) + part, self.given[adapter_prefix(name) + part])
            for part, record in entry.adapter.tensors().items()
            if isinstance(record.coding, Coding)
            and record.coding.id == SLICE
            and not isinstance(parameters[str(record.coding.of)], Adapted)
        }
        if not lost:
            return entry
        return msgspec.structs.replace(entry, adapter=msgspec.structs.replace(entry.adapter, **lost))

    def _adapter(self, name: str, entry: AdaptedRecipe) -> dict[str, Tensor]:
        prefix, shapes = adapter_prefix(name), adapter_shapes(entry)
        adapter = {part: self._take(prefix + part, shapes[part]) for part in entry.parts}
        for part, tensor in adapter.items():
            self._require_finite(prefix + part, tensor, infinity=True)
            if dtypes.dtype_name(tensor.dtype) not in dtypes.GENERATED:
                raise CheckpointError(
                    f"{prefix}{part} is {tensor.dtype}, which an adapter cannot have",
                    hint=f"Convert it to one of {', '.join(dtypes.GENERATED)}.",
                )
        return adapter

    def _take(self, name: str, shape: tuple[int, ...] | None) -> Tensor:
        tensor = self.given.get(name)
        if tensor is None:
            raise lacking(name, self.given)
        if shape is not None and tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"{name} has shape {tuple(tensor.shape)}, but the recipe says {shape}", hint=_OWN_TENSORS
            )
        if dtypes.dtype_name(tensor.dtype) not in dtypes.ITEMSIZE:
            raise CheckpointError(
                f"{name} is {tensor.dtype}, which the format does not support", hint="Convert it to another dtype."
            )
        if tensor.is_meta:
            raise CheckpointError(
                f"{name} is on the meta device and does not have values", hint="Load the weights first."
            )
        self.used.add(name)
        return tensor

    def _keep(self, name: str, tensor: Tensor) -> TensorRecord:
        """Put a tensor into the file."""
        self.tensors[name] = tensor.detach().cpu().contiguous()
        digest = hashlib.sha256(tensor_bytes(self.tensors[name])).hexdigest()
        return TensorRecord(dtype=dtypes.dtype_name(tensor.dtype), sha256=digest)

    def _stored(self, name: str, tensor: Tensor, entry: StoredRecipe) -> Parameter:
        self.storage.groups.add(entry.group)
        shape, dtype = tuple(tensor.shape), dtypes.dtype_name(tensor.dtype)
        value = None if entry.trained else constant_bits(tensor)
        if value is not None:
            return Constant(shape=shape, dtype=dtype, value=value)
        return self.storage.entry(name, tensor, entry, self._keep)

    def _same_as_generated(self, name: str, entry: SeededRecipe | AdaptedRecipe, weight: Tensor) -> bool:
        if tuple(weight.shape) != entry.shape:
            raise CheckpointError(
                f"{name} has shape {tuple(weight.shape)}, but the recipe says {entry.shape}", hint=_OWN_TENSORS
            )
        matching = [
            seed
            for seed in self.seeds
            if same_bits(self._drawn(name, entry, weight.device, seed).to(weight.dtype), weight)
        ]
        # All weights are on one scaffold: the one that the model was on.
        self.seeds = matching or self.seeds
        return bool(matching)

    def _drawn(self, name: str, entry: SeededRecipe | AdaptedRecipe, device: torch.device, seed: int) -> Tensor:
        """Return the generated weight in the recorded dtype."""
        dtype = dtypes.torch_dtype(entry.dtype)
        if self.by_torch:
            return self.constructed[name].to(device, dtype).contiguous()
        return rng.fill_(torch.empty(entry.shape, dtype=dtype, device=device), replace(self.sources[name], seed=seed))

    def _fingerprint(self, name: str, entry: SeededRecipe | AdaptedRecipe, compared: bool) -> str:
        if not self.by_torch:
            return of_source(self.sources[name], entry.shape)
        if not compared:
            require_versions(self.plan.rng.torch, self.plan.rng.capability)
        return rng.fingerprint_hex(rng.fingerprint(self._drawn(name, entry, torch.device("cpu"), self.plan.seed)))

    def _changed(self, name: str, entry: SeededRecipe | AdaptedRecipe, weight: Tensor) -> Parameter:
        """Store a changed backbone: the whole effective weight of the layer."""
        weight = weight.detach()
        if self._is_rounded(name, weight):
            self.rounded.append(name)
        if isinstance(entry, AdaptedRecipe):
            weight = merge_adapter(weight, self._adapter(name, entry), entry)
        self._require_finite(name, weight, infinity=True)
        self.stored_instead[name] = weight.numel() * weight.element_size()
        return self._stored(name, weight, StoredRecipe(group="other", trained=True))

    def _is_rounded(self, name: str, backbone: Tensor) -> bool:
        """Return whether a changed backbone is as generated, apart from the rounding of averages."""
        seeds = () if self.by_torch else self.plan.seeds.values()
        return any(is_as_drawn(backbone, replace(self.sources[name], seed=seed)) for seed in seeds)


def _require_names(found: Iterable[tuple[str, str]]) -> None:
    """Raise CheckpointError for the first name that would mean two things in the pack."""
    for name, message in found:
        raise CheckpointError(
            f"{name} {message}",
            hint="Rename the module or parameter, leave the layer out of `targets`, or choose another coding for its "
            "group.",
        )


def _provenance(architecture: Architecture) -> dict[str, str]:
    """Return the tools' versions without local build tags, so that CPU and GPU machines write the same bytes."""
    recorded = {"lottapack": __version__, "torch": torch.__version__.split("+")[0]}
    for name in arch.tools(architecture):
        with contextlib.suppress(metadata.PackageNotFoundError):  # a module without a distribution
            recorded.setdefault(name, metadata.version(name).split("+")[0])
    return recorded
