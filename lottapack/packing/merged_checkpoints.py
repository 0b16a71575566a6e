"""pack_merged(): a pack from nothing but merged weights and the seed."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral
from os import PathLike
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from lottapack import rng
from lottapack.arch.trust import allowing
from lottapack.errors import CheckpointError
from lottapack.folders import companions
from lottapack.folders.bits import same_bits
from lottapack.folders.checkpoint import reconcile_ties
from lottapack.folders.companions import Files
from lottapack.folders.reading import refuse_over_checkpoint
from lottapack.folders.states import LeftOut
from lottapack.format import dtypes
from lottapack.format.names import adapter_prefix
from lottapack.format.recipe import (
    RECIPE_VERSION,
    AdaptedRecipe,
    ParameterRecipe,
    Recipe,
    SeededRecipe,
    StoredRecipe,
    TiedRecipe,
)
from lottapack.nn.attach import stored_as_in_out
from lottapack.nn.scales import check_seed_and_scale, default_scale, recipe_rng
from lottapack.nn.select import Entry
from lottapack.packing.pack_result import PackResult
from lottapack.packing.packer import Packer
from lottapack.packing.plain import Checkpoint, Named, PlainModel, content_of, model_of
from lottapack.packing.recovery import recover
from lottapack.packing.storing import storage
from lottapack.progress import Progress

TOLERANCE = {"float32": 2.0**-20, "float16": 2.0**-10, "bfloat16": 2.0**-8}
"""By dtype of a weight the error that rounding it after the merge explains."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What became of one weight. ``role``: seeded, adapted or stored; ``error``: relative, in Frobenius norms.

    ``rank`` and ``beta`` are None where there is no adapter; ``size``: the bytes that a stored weight takes in the
    pack. What a narrower adapter or a coding loses is not in ``error``, but in the result's ``kept``.
    """

    name: str
    role: str
    rank: int | None = None
    beta: float | None = None
    error: float | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class MergedResult(PackResult):
    """What pack_merged() wrote, and what it found in each layer."""

    layers: tuple[Layer, ...] = ()


@torch.no_grad()
def pack_merged(
    checkpoint: Checkpoint,
    path: str | PathLike[str],
    *,
    seed: int,
    max_rank: int,
    tolerance: float | None = None,
    architecture: Named = None,
    distribution: str | rng.Table = "normal16",
    key: str | None = None,
    ignore: str | Iterable[str] = (),
    allow: str | Iterable[str] = (),
    stored_dtype: torch.dtype | str | None = None,
    coding: str | Mapping[str, str] | None = None,
    files: Files = True,
    progress: Progress | None = None,
) -> MergedResult:
    """Recover a pack from merged weights whose backbone lottapack drew.

    For each weight beta and a low-rank difference to the generated backbone are found, of the smallest rank that
    meets the tolerance; a weight that has none is stored. The rebuilt weights are those of the checkpoint within
    the tolerance, not bit for bit.

    Args:
        checkpoint: a plain module, its state_dict, or a path as in pack().
        path: the pack.
        seed: that of the scaffold.
        max_rank: the largest rank to look for.
        tolerance: the largest error of a layer, relative, in Frobenius norms; by default what rounding to its dtype
            explains: 2**-20 for float32, 2**-10 for float16, 2**-8 for bfloat16.
        architecture: as in pack_torch_cpu().
        distribution: that of the scaffold. (Its scale need not be known: beta takes up any other.)
        key: as in pack().
        ignore: as in pack().
        allow: as in load(), for an architecture of the family ``python``.
        stored_dtype: as in pack(), for the adapters that were found and what is stored. What this and a coding lose
            comes on top of the tolerance, which is that of the search alone; the result says how much, in ``kept``.
        coding: as in pack().
        files: as in pack().
        progress: called with layers looked at and layers in all.

    Raises:
        CheckpointError: no layer has anything of the backbone; tensors are missing or left over; a coding that is
            unknown or cannot hold a value. ArchitectureError, OutputError, UnsupportedError.
    """
    leaving = LeftOut(ignore)
    forms = storage(stored_dtype, coding, None)
    with allowing(allow):
        check_seed_and_scale(seed, None)
        bounded = tolerance is None or 0 < tolerance < math.inf
        if not isinstance(max_rank, Integral) or max_rank < 1 or not bounded:
            raise CheckpointError(
                f"max_rank={max_rank!r}, tolerance={tolerance!r}: both are above 0, and max_rank is a whole number"
            )
        table = rng.builtin(distribution) if isinstance(distribution, str) else distribution
        refuse_over_checkpoint(Path(path), checkpoint)
        model = model_of(checkpoint, architecture)
        tensors = model.tensors(content_of(checkpoint, leaving), key, leaving)
        search = _Search(seed, table, max_rank, tolerance, model, tensors)
        plan, held = search.run(progress)
        plan = model.as_live(plan, checkpoint)
        if not any(layer.role != "stored" for layer in search.layers):
            raise CheckpointError(
                f"nothing matches: none of the {len(search.layers)} weights is seed {seed}'s backbone plus a "
                f"difference of a rank up to {max_rank}",
                hint="Check seed, distribution and architecture, and that the backbone was drawn by lottapack; or "
                "allow a larger max_rank or tolerance.",
            )
        part = checkpoint if isinstance(checkpoint, nn.Module) else None
        beside = companions.gathered(files, checkpoint, part, model.architecture)
        result = Packer(plan, held, storage=forms, leaving=leaving, files=beside).write(Path(path))
        taken = {kept.name: kept.size for kept in result.kept}
        layers = tuple(replace(layer, size=taken.get(layer.name, layer.size)) for layer in search.layers)
        whole = {item.name: getattr(result, item.name) for item in fields(PackResult)}
        return MergedResult(**whole, layers=layers)


class _Search:
    """Goes through the weights and notes what each is."""

    def __init__(
        self,
        seed: int,
        table: rng.Table,
        max_rank: int,
        tolerance: float | None,
        model: PlainModel,
        tensors: Mapping[str, Tensor],
    ) -> None:
        self.seed, self.table = seed, table
        self.max_rank, self.tolerance = max_rank, tolerance
        self.model, self.given = model, tensors
        self.layers: list[Layer] = []

    def run(self, progress: Progress | None) -> tuple[Recipe, dict[str, Tensor]]:
        """The recipe and the tensors of the pack."""
        entries = self.model.entries
        held = dict(self.given)
        plain: dict[str, ParameterRecipe] = {
            name: TiedRecipe(to=entry.tied) if entry.tied else StoredRecipe(group=entry.group, trained=False)
            for name, entry in entries.items()
        }
        plan = Recipe(
            lottapack_recipe=RECIPE_VERSION,
            architecture=self.model.architecture,
            rng=recipe_rng(self.seed, [self.table]),
            parameters=plain,
        )
        for copy in reconcile_ties(plan, held):
            del held[copy]
        parameters = dict(plain)
        for number, (name, entry) in enumerate(entries.items()):
            if not entry.tied:
                parameters[name], found = self._one(entry, held[name])
                held |= found
                if not isinstance(parameters[name], StoredRecipe):
                    del held[name]
            if progress:
                progress(number + 1, len(entries))
        return msgspec.structs.replace(plan, parameters=parameters), held

    def _one(self, entry: Entry, given: Tensor) -> tuple[ParameterRecipe, dict[str, Tensor]]:
        """The role of a parameter, and the tensors of its adapter."""
        dtype = dtypes.dtype_name(given.dtype)
        stored = StoredRecipe(group=entry.group, trained=entry.group != "buffer" and given.is_floating_point())
        if given.is_floating_point() and not bool(given.isfinite().all()):
            raise CheckpointError(
                f"{entry.name} holds NaN or infinity", hint="Training diverged: take an earlier checkpoint."
            )
        if not entry.can_generate or dtype not in dtypes.GENERATED or not given.numel():
            return stored, {}
        scale = rng.binary32(default_scale(entry, self.table))
        source = rng.Source(self.seed, entry.name, self.table, scale, dtype)
        drawn = rng.fill_(torch.empty(given.shape, dtype=given.dtype, device="cpu"), source)
        shape = tuple(given.shape)
        if same_bits(drawn, given.cpu()):
            self.layers.append(Layer(entry.name, "seeded", error=0.0))
            return SeededRecipe(shape=shape, dtype=dtype, distribution=self.table.id, scale=scale), {}
        in_out = stored_as_in_out(entry.module)
        fit = recover(
            given,
            drawn,
            max_rank=self.max_rank,
            tolerance=TOLERANCE[dtype] if self.tolerance is None else self.tolerance,
            fan_in_fan_out=in_out,
        )
        if fit is None or fit.beta == 0:
            self.layers.append(Layer(entry.name, "stored", size=given.numel() * given.element_size()))
            return stored, {}
        self.layers.append(Layer(entry.name, "adapted", fit.rank, fit.beta, fit.error))
        prefix = adapter_prefix(entry.name)
        found = {prefix + "lora_A": fit.lora_A, prefix + "lora_B": fit.lora_B}
        if fit.beta != 1:
            found[prefix + "beta"] = torch.tensor([fit.beta], dtype=torch.float32, device="cpu")
        adapted = AdaptedRecipe(
            shape=shape,
            dtype=dtype,
            distribution=self.table.id,
            scale=scale,
            fan_in_fan_out=in_out,
            rank=fit.rank,
            alpha=float(fit.rank),
            scaling="lora",
            beta=fit.beta != 1,
        )
        return adapted, found
