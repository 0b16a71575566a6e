"""merged(): recover recipe and adapters from merged weights and the seed alone."""

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real

import msgspec
import torch
from torch import Tensor, nn

from lottapack import rng
from lottapack.arch.trust import allowing
from lottapack.errors import CheckpointError, UnsupportedError
from lottapack.folders.bits import same_bits
from lottapack.folders.checkpoint import reconcile_ties
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
from lottapack.nn.kinds import inputs_first
from lottapack.nn.scales import check_seed, default_scale, recipe_rng
from lottapack.nn.select import Entry
from lottapack.nn.tied_head import can_share
from lottapack.packing.recovered import Layer, Recovered
from lottapack.progress import Progress, require_functions
from lottapack.recover.low_rank import recover
from lottapack.recover.plain import Checkpoint, Named, PlainModel, content_of, model_of

TOLERANCE = {"float32": 2.0**-20, "float16": 2.0**-10, "bfloat16": 2.0**-8}
"""The error that rounding after the merge explains, by the weight's dtype."""


@torch.no_grad()
def merged(
    checkpoint: Checkpoint,
    *,
    seed: int,
    max_rank: int,
    tolerance: float | None = None,
    architecture: Named = None,
    distribution: str | rng.Table = "normal16",
    key: str | None = None,
    ignore: str | Iterable[str] = (),
    allow: str | Iterable[str] = (),
    progress: Progress | None = None,
) -> Recovered:
    """Recover beta and adapters from merged weights whose backbone lottapack drew.

    For each weight, this finds beta and a low-rank difference to the generated backbone, with the smallest rank within
    the tolerance. A weight without such a fit is stored. The rebuilt weights equal the checkpoint's within the
    tolerance, not bit for bit.

    Args:
        checkpoint: a plain module, its state_dict, or a path as in pack().
        seed: the seed of the scaffold, from 0 to 2**64 - 1.
        max_rank: the largest rank to try.
        tolerance: the largest relative error of a layer, in Frobenius norms; by default what rounding to its dtype
            explains: 2**-20 for float32, 2**-10 for float16, 2**-8 for bfloat16.
        architecture: as in torch_cpu().
        distribution: that of the scaffold. (Its scale need not be known, because beta absorbs any other.)
        key: as in pack().
        ignore: as in pack().
        allow: as in load(), for an architecture of the family ``python``.
        progress: called with the layers done so far and in all.

    Returns:
        The input of pack(); its ``layers`` give the role of each weight.

    Raises:
        CheckpointError: no layer matches the backbone; tensors are missing or left over.
        ScaffoldError: the seed is out of range.
        ArchitectureError: the architecture is unknown or cannot be built.
        UnsupportedError: the distribution is unknown.

    Source:
        The merged weight is ``beta * W + B A`` (arXiv 2604.08749); spec/v1/merge.md.

    Examples:
        >>> weights = lottapack.load("model.lotta.safetensors", merge=True)
        >>> found = lottapack.recover.merged(weights, seed=42, max_rank=4)
        >>> [(layer.name, layer.role, layer.rank) for layer in found.layers]
        [('0.weight', 'adapted', 2), ('2.weight', 'stored', None)]
        >>> result = lottapack.pack(found, "recovered.lotta.safetensors")
    """
    require_functions(progress=progress)
    leaving = LeftOut(ignore)
    with allowing(allow):
        check_seed(seed)
        bounded = tolerance is None or (isinstance(tolerance, Real) and 0 < tolerance < math.inf)
        if not isinstance(max_rank, Integral) or max_rank < 1 or not bounded:
            raise CheckpointError(
                f"max_rank={max_rank!r}, tolerance={tolerance!r}: both must be above 0, and max_rank a whole number",
                hint="Such as max_rank=16, and no tolerance.",
            )
        if not isinstance(distribution, str | rng.Table):
            raise UnsupportedError(
                f"distribution={distribution!r} must be the id of a table, or a Table",
                hint='Pass that of the scaffold, such as "normal16".',
            )
        table = rng.builtin(distribution) if isinstance(distribution, str) else distribution
        model = model_of(checkpoint, architecture)
        tensors = model.tensors(content_of(checkpoint, leaving), key, leaving)
        search = _Search(seed, table, max_rank, tolerance, model, tensors)
        plan, held = search.run(progress)
        plan = model.as_live(plan, checkpoint)
        if not any(layer.role != "stored" for layer in search.layers):
            raise CheckpointError(
                f"nothing matches: none of the {len(search.layers)} weights is seed {seed}'s backbone plus a "
                f"difference of rank {max_rank} or less",
                hint="Check seed, distribution and architecture, and that lottapack drew the backbone; or pass a "
                "larger max_rank or tolerance.",
            )
        part = checkpoint if isinstance(checkpoint, nn.Module) else None
        return Recovered(plan, held, checkpoint, part, leaving=leaving, layers=tuple(search.layers))


class _Search:
    """Goes through the weights and finds the role of each."""

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
        """Return the recipe and the tensors of the pack."""
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
        """Return the role of a parameter, and the tensors of its adapter."""
        dtype = dtypes.dtype_name(given.dtype)
        stored = StoredRecipe(group=entry.group, trained=entry.group != "buffer" and given.is_floating_point())
        if given.is_floating_point() and not bool(given.isfinite().all()):
            raise CheckpointError(
                f"{entry.name} contains NaN or infinity", hint="Training diverged. Use an earlier checkpoint."
            )
        if not entry.can_generate or dtype not in dtypes.GENERATED or not given.numel():
            return stored, {}
        scale = rng.binary32(default_scale(entry, self.table))
        source = rng.Source(self.seed, entry.name, self.table, scale, dtype, tuple(given.shape))
        drawn = rng.fill_(torch.empty(given.shape, dtype=given.dtype, device="cpu"), source)
        shape = tuple(given.shape)
        if same_bits(drawn, given.cpu()):
            self.layers.append(Layer(entry.name, "seeded", error=0.0))
            return SeededRecipe(shape=shape, dtype=dtype, distribution=self.table.id, scale=scale), {}
        in_out = inputs_first(entry.module)
        fit = None
        if all(self._sees_adapter(copy, entry) for copy in self.model.entries.values() if copy.tied == entry.name):
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

    def _sees_adapter(self, copy: Entry, owner: Entry) -> bool:
        """Return whether the layer of a tied weight uses the adapter of its owner: a head, or the same layer again."""
        if copy.module is owner.module or can_share(owner.module, copy.module):
            return True
        one, other = (self._tensors_of(entry) for entry in (copy, owner))
        return copy.leaf == owner.leaf and repr(copy.module) == repr(owner.module) and one == other

    def _tensors_of(self, entry: Entry) -> dict[str, str]:
        """Return the name of the owner of each tensor in the layer of an entry."""
        return {
            one.leaf: one.tied or one.name
            for one in self.model.entries.values()
            if one.module_name == entry.module_name
        }
