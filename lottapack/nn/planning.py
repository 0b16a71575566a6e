"""The plan of scaffold(): the role of each entry of a model, and its settings."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from torch import nn

from lottapack import rng
from lottapack.errors import ScaffoldError, UnusedOptionWarning
from lottapack.format.descriptor import LAMBDAS
from lottapack.format.factors import Factors, factors
from lottapack.format.names import name_fault
from lottapack.format.recipe import (
    AdaptedRecipe,
    ParameterRecipe,
    SeededRecipe,
    StoredRecipe,
    TiedRecipe,
    scaling_factor,
)
from lottapack.nn.any_module import taken_from
from lottapack.nn.frozen import is_drawn
from lottapack.nn.kinds import changes_itself
from lottapack.nn.layers import AdapterLayer
from lottapack.nn.scales import Width, drawn_dtype, require_held, scale_and_dtype
from lottapack.nn.select import DEFAULT_TRAIN, GROUP_WORDS, Entry, Patterns, PerLayer, matches, without_effect
from lottapack.nn.tied_head import can_share

_GENERATED = SeededRecipe | AdaptedRecipe
_SHOWN = 8
"""The largest number of faults that an error lists."""


class Planner:
    """Decides each entry's role."""

    def __init__(
        self,
        rank: int | Mapping[str, int],
        alpha: float | None,
        scaling: str,
        tables: PerLayer[rng.Table],
        width: Width,
        beta: bool,
        shared_factor: str | Mapping[str, str] | None = None,
        vectors: tuple[str, ...] = (),
    ) -> None:
        """``vectors``: what the adapters learn beside their factors."""
        self.ranks, self.tables = PerLayer(rank, "rank"), tables
        self.alpha, self.scaling, self.width, self.beta = alpha, scaling, width, beta
        self.shared = PerLayer(shared_factor, "shared_factor")
        self.vectors = vectors
        self.any_rank = set(LAMBDAS) <= set(vectors)

    def plan(
        self, entries: list[Entry], targets: str | Iterable[str] | None, train: str | Iterable[str] | None
    ) -> dict[str, ParameterRecipe]:
        """Return the recipe of each entry by name. Raises one ScaffoldError with all faults."""
        explicit = Patterns(targets, "targets") if targets is not None else None
        words = Patterns(DEFAULT_TRAIN if train is None else train, "train").patterns
        groups = {GROUP_WORDS[word] for word in words if word in GROUP_WORDS}
        named = Patterns([word for word in words if word not in GROUP_WORDS], "train")
        copies: dict[str, list[Entry]] = {}
        for entry in entries:
            if entry.tied:
                copies.setdefault(entry.tied, []).append(entry)
        self.some_train = any(entry.tensor.requires_grad for entry in entries)
        plan: dict[str, ParameterRecipe] = {}
        faults: list[ScaffoldError] = []
        for entry in entries:
            try:
                plan[entry.name] = self._plan_one(entry, copies.get(entry.name, []), explicit, named, groups)
            except ScaffoldError as fault:
                faults.append(fault)
        for patterns in (explicit, named, self.ranks.patterns, self.tables.patterns, self.shared.patterns):
            if patterns is not None:
                faults += patterns.unused(entries)
        if explicit is not None:
            adapted = [entry for entry in entries if isinstance(plan.get(entry.name), AdaptedRecipe)]
            faults += _without_adapter(explicit, entries, adapted) if not faults else []
        faults += self._without_effect(entries, plan, named) if not faults else []
        raise_all(faults)
        if train is not None:
            _warn_of_absent(words, groups, entries)
        if not _is_of_use(plan, chosen=train is not None and not (explicit and explicit.patterns)):
            raise self._no_adapter(entries)
        return plan

    def _without_effect(
        self, entries: list[Entry], plan: Mapping[str, ParameterRecipe], named: Patterns
    ) -> list[ScaffoldError]:
        """Return a fault for each pattern without effect."""
        faults = []
        by_role = ((self.ranks, AdaptedRecipe, "layer with an adapter"), (self.tables, _GENERATED, "generated layer"))
        for values, roles, kind in by_role:
            used = [entry for entry in entries if isinstance(plan[entry.name], roles)]
            if values.patterns is not None:
                faults += without_effect(values.patterns, entries, used, kind)
        faults += self._sharing_nothing(entries, plan)
        for pattern in named.patterns:
            mine = [entry for entry in entries if named.names(pattern, entry)]
            if all(entry.group == "buffer" or not entry.tensor.is_floating_point() for entry in mine):
                faults.append(
                    ScaffoldError(
                        f"train={pattern!r}: {mine[0].name} cannot be trained: it is a buffer, or does not "
                        f"contain floats",
                        hint="Leave it out of `train`. The pack contains buffers in any case.",
                    )
                )
        return faults

    def _sharing_nothing(self, entries: list[Entry], plan: Mapping[str, ParameterRecipe]) -> list[ScaffoldError]:
        """Return a fault if shared_factor, or a pattern of it, concerns no adapter of several matrices."""
        batches = [
            entry for entry in entries if getattr(plan[entry.name], "batch_dims", msgspec.UNSET) is not msgspec.UNSET
        ]
        if self.shared.patterns is not None:
            return without_effect(self.shared.patterns, entries, batches, "weight of several matrices with an adapter")
        if batches or self.shared.by_pattern["*"] is None:
            return []
        return [
            ScaffoldError(
                f"shared_factor={self.shared.by_pattern['*']!r} has no effect, because no weight with an adapter "
                "consists of several matrices, as experts do",
                hint="Leave out `shared_factor`.",
            )
        ]

    def _plan_one(
        self, entry: Entry, copies: list[Entry], explicit: Patterns | None, named: Patterns, groups: set[str]
    ) -> ParameterRecipe:
        fault = name_fault(entry.name)
        if fault:
            raise ScaffoldError(f"{entry.name!r} cannot be packed: {fault}", hint="Rename the module.")
        require_held(entry)
        if entry.tied:
            self._refuse_tied_target(entry, explicit)
            return TiedRecipe(to=entry.tied)
        return self._role(entry, copies, explicit, named, groups)

    def _role(
        self, entry: Entry, copies: list[Entry], explicit: Patterns | None, named: Patterns, groups: set[str]
    ) -> ParameterRecipe:
        """Return the role: names take precedence over group words, and these over defaults.

        ``copies``: tied entries.
        """
        # One layer under two names sees its adapter under both.
        others = [copy.module for copy in copies if copy.module is not entry.module or copy.leaf != entry.leaf]
        shared = not all(can_share(entry.module, other) for other in others)
        names = [entry, *copies]
        in_group = any(one.group in groups for one in names)
        wanted = explicit is not None and _is_target(explicit, entry)
        in_full = any(named.first_match(one) is not None for one in names)
        if wanted and in_full:
            raise ScaffoldError(f"{entry.name} is in both `targets` and `train`", hint="Name it in one of them.")
        if wanted:
            return self._adapted(entry, shared)
        in_full = in_full or (in_group and entry.group != "other")
        if explicit is None and not in_full and not shared and self._by_default(entry):
            return self._adapted(entry, shared)
        if not entry.can_generate or in_full:
            # Where layers are named, all other layers are frozen.
            passed_by = explicit is not None and entry.kind is not None and entry.kind.by_default
            return self._of_other(names, in_full or (in_group and not (passed_by and self._is_drawn(names))))
        unfit = self._is_narrow(entry) or _taken(entry) or changes_itself(entry.module)
        small = unfit or (shared and GROUP_WORDS["rest"] in groups)
        if explicit is None and small and not isinstance(entry.module, nn.Embedding):
            drawn_dtype(entry)
            return StoredRecipe(group=entry.group, trained=True)
        return self._seeded(entry)

    def _of_other(self, names: Sequence[Entry], wanted: bool) -> ParameterRecipe:
        """Return the role of a parameter that is trained in full if ``wanted``, or that no layer generates.

        ``names``: as in _is_drawn().
        """
        entry = names[0]
        trains = wanted and entry.group != "buffer" and entry.tensor.is_floating_point()
        if trains and entry.can_generate:
            drawn_dtype(entry)
        if not trains and not entry.can_generate and self._is_drawn(names):
            return self._seeded(entry)
        return StoredRecipe(group=entry.group, trained=trains)

    def _by_default(self, entry: Entry) -> bool:
        """Return whether a weight gets an adapter by default.

        Parameters that the model's own code freezes stay as they are, except for layers that scripts freeze as a
        whole before scaffold().
        """
        fixed = self.some_train and not entry.tensor.requires_grad and not entry.can_generate
        fits = entry.kind is not None and entry.kind.by_default and not self._is_narrow(entry)
        return fits and not fixed and not _taken(entry) and not changes_itself(entry.module)

    def _is_drawn(self, names: Sequence[Entry]) -> bool:
        """Return whether a frozen parameter is generated from the seed. ``names``: the entry and its tied ones.

        Parameters that the model's own code freezes are not random, such as sines of positions.
        """
        fixed = self.some_train and not names[0].tensor.requires_grad
        return not fixed and all(map(is_drawn, names))

    def _is_narrow(self, entry: Entry) -> bool:
        """Return whether a layer has fewer inputs or outputs than the general rank, so its adapter would be larger."""
        return not self.any_rank and self.ranks.is_general(entry) and self.ranks.of(entry) > _factors(entry).most

    def _no_adapter(self, entries: list[Entry]) -> ScaffoldError:
        """Return the error for a model in which no layer gets an adapter, with the closest layers and the reason."""
        named = [entry.name for entry in entries if entry.kind is not None and not entry.kind.by_default]
        weights = [entry for entry in entries if entry.kind is not None and entry.kind.by_default and not entry.tied]
        narrow = [entry for entry in weights if self._is_narrow(entry)]
        why, hint = "", "Name layers in `targets`, or fewer in `train`."
        if narrow:
            why = f": every layer left for one has fewer inputs or outputs than the rank, {self.ranks.of(narrow[0])}"
            hint = f"The widest layer takes ranks up to {max(_factors(entry).most for entry in narrow)}."
        elif named and not weights:
            why = f": {', '.join(named[:_SHOWN])} get one only if targets names them"
        return ScaffoldError(f"no layer would get an adapter{why}", hint=hint)

    def _refuse_tied_target(self, entry: Entry, explicit: Patterns | None) -> None:
        if explicit is not None and _is_target(explicit, entry):
            raise ScaffoldError(
                f"{entry.name} cannot have its own adapter: it is tied to {entry.tied}",
                hint=f"Name {entry.tied} in `train`, or leave both frozen.",
            )

    def _seeded(self, entry: Entry) -> SeededRecipe:
        table = self.tables.of(entry)
        scale, dtype = scale_and_dtype(entry, table, self.width)
        return SeededRecipe(shape=tuple(entry.tensor.shape), dtype=dtype, distribution=table.id, scale=scale)

    def _adapted(self, entry: Entry, shared: bool) -> AdaptedRecipe:
        if shared:
            raise ScaffoldError(
                f"{entry.name} cannot have an adapter: another layer shares its weight and would not see it",
                hint="Train it in full, or leave it frozen.",
            )
        if changes_itself(entry.module) and isinstance(entry.module, nn.Embedding | nn.EmbeddingBag):
            raise ScaffoldError(
                f"{entry.name} cannot have an adapter: its {type(entry.module).__name__} has max_norm, with which it "
                "changes its own weight in place",
                hint="Build the layer without max_norm, train it in full, or leave it frozen.",
            )
        if taken := _taken(entry):
            hint = f"Rename {entry.module_name}.{taken}, or leave the layer out of `targets`."
            raise ScaffoldError(f"the adapter of {entry.name} would replace the layer's own {taken}", hint=hint)
        table = self.tables.of(entry)
        scale, dtype = scale_and_dtype(entry, table, self.width)
        shape = tuple(entry.tensor.shape)
        assert entry.kind is not None
        rank, most = self.ranks.of(entry), self._most(entry)
        if self._is_narrow(entry):
            rank = most  # it is named in targets, and gets its largest rank
        if rank > most:
            raise ScaffoldError(
                f"rank={rank!r} for {entry.module_name or 'the layer'}: this layer supports ranks from 1 to {most}",
                hint=f'Give ranks by pattern, such as rank={{"{entry.module_name}": {most}, "*": 8}}.',
            )
        rank = int(rank)  # NumPy integers are accepted too
        alpha = float((rank or 1) if self.alpha is None else self.alpha)
        if not 0 < scaling_factor(alpha, rank, self.scaling) < math.inf:
            raise ScaffoldError(
                f"{entry.name}: with alpha={alpha} the scaling is not a finite binary32 number above 0",
                hint="Choose an alpha nearer to the rank.",
            )
        return AdaptedRecipe(
            shape=shape,
            dtype=dtype,
            distribution=table.id,
            scale=scale,
            fan_in_fan_out=entry.kind.fan_in_fan_out,
            batch_dims=entry.kind.batch_dims or msgspec.UNSET,
            shared_factor=(self.shared.get(entry) if entry.kind.batch_dims else None) or msgspec.UNSET,
            rank=rank,
            alpha=alpha,
            scaling=self.scaling,
            beta=self.beta,
            vectors=self.vectors or msgspec.UNSET,
        )

    def _most(self, entry: Entry) -> int:
        """Return the largest rank of a layer's adapter."""
        sides = _factors(entry)
        return sides.most_with_vectors if self.any_rank else sides.most


def _warn_of_absent(words: Sequence[str], groups: set[str], entries: list[Entry]) -> None:
    """Warn the caller of scaffold() if ``train`` only names groups that the model does not have.

    Group words are not refused, so that one list of them serves many models.
    """
    if words and len(words) == len(groups) and groups.isdisjoint(entry.group for entry in entries):
        warnings.warn(
            f"train: the model has no {' and no '.join(words)}, so only the adapters are trained",
            UnusedOptionWarning,
            stacklevel=4,
        )


def _is_of_use(plan: Mapping[str, ParameterRecipe], chosen: bool) -> bool:
    """Return whether a plan has an adapter, or trains chosen parameters on generated weights (a reservoir)."""
    roles = plan.values()
    trained = any(isinstance(role, StoredRecipe) and role.trained for role in roles)
    reservoir = chosen and trained and any(isinstance(role, SeededRecipe) for role in roles)
    return reservoir or any(isinstance(role, AdaptedRecipe) for role in roles)


def _factors(entry: Entry) -> Factors:
    """Return the matrices of a weight."""
    assert entry.kind is not None
    return factors(tuple(entry.tensor.shape), entry.kind.fan_in_fan_out, entry.kind.batch_dims)


def _taken(entry: Entry) -> str | None:
    """Return an attribute of a module whose name the parameter's adapter needs, or None."""
    return AdapterLayer.taken_from(entry.module) if entry.can_generate else taken_from(entry.module, entry.leaf)


def _is_target(targets: Patterns, entry: Entry) -> bool:
    """Return whether a target names a weight, by the name of its layer or its own.

    A parameter that is not a known weight must be named itself; a pattern for modules does not include it.
    """
    if entry.kind is None:
        return False
    known = entry.can_generate or entry.kind.by_default or isinstance(entry.module, nn.Embedding | nn.EmbeddingBag)
    if known:
        return targets.first_match(entry) is not None
    named = [pattern for pattern in targets.patterns if matches(pattern, entry.name)]
    return any(not matches(pattern, entry.module_name) for pattern in named)


def _without_adapter(targets: Patterns, entries: list[Entry], adapted: list[Entry]) -> list[ScaffoldError]:
    """Return a fault for each target whose parameters all cannot have an adapter."""
    faults = []
    for pattern in targets.patterns:
        named = [entry for entry in entries if targets.names(pattern, entry)]
        if named and not any(targets.names(pattern, entry) for entry in adapted):
            entry = named[0]
            faults.append(
                ScaffoldError(
                    f"targets={pattern!r}: {entry.name}, a parameter of a {type(entry.module).__name__}, cannot have "
                    "an adapter",
                    hint="Name weights: floating-point parameters of two or more dimensions, except norms and biases.",
                )
            )
    return faults


def raise_all(faults: Sequence[ScaffoldError]) -> None:
    """Raise one error for all faults, if there are any."""
    if len(faults) > 1:
        hints = dict.fromkeys(fault.hint for fault in faults if fault.hint)
        listed = "".join(f"\n  {fault.message}" for fault in faults[:_SHOWN])
        more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise ScaffoldError(f"{len(faults)} layers or arguments do not fit:{listed}{more}", hint=" ".join(hints))
    for fault in faults:
        raise fault
