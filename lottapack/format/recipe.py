"""The recipe that a model in training carries in its state_dict (spec: recipe)."""

import base64
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np

from lottapack.errors import CheckpointError, FormatError, UnsupportedError
from lottapack.format import canonical, names, validate
from lottapack.format.codings import SEEDED, SLICE
from lottapack.format.computed import FLOATING
from lottapack.format.descriptor import (
    DEFAULT_SCAFFOLD,
    FACTORS,
    FORMAT_VERSION,
    LAMBDAS,
    SCALES,
    Adapted,
    Architecture,
    ArchitectureRecord,
    Coding,
    Constant,
    Descriptor,
    Generated,
    Record,
    Seeded,
    Stored,
    architecture_fields,
    unknown_scaffold,
)
from lottapack.format.names import ADAPTER_PARTS, clashes, table_tensor
from lottapack.format.recipe_bytes import bytes_of
from lottapack.format.ties import owners
from lottapack.rng import TORCH_CPU, Source, Table, binary32, builtin, custom

if TYPE_CHECKING:
    import torch

_RESTORE = "Restore the tensor lottapack_recipe from a checkpoint as lottapack wrote it."

BUFFER = names.RECIPE
"""The name of the uint8 tensor that holds the recipe."""

RECIPE_VERSION = "1.0"


class OwnTable(Record, frozen=True):
    """A table of the model's own: little-endian binary32 values in base64."""

    bits: int
    values: str


class ScaffoldSeed(Record, frozen=True):
    """The seed of an additional scaffold, 16 hex digits."""

    seed: str


class RecipeRng(Record, frozen=True):
    """Like the descriptor's ``rng``, with the values of tables, and only the seeds of scaffolds."""

    id: str
    seed: str
    tables: dict[str, OwnTable]
    scaffolds: dict[str, ScaffoldSeed] | msgspec.UnsetType = msgspec.UNSET
    torch: str | msgspec.UnsetType = msgspec.UNSET
    capability: str | msgspec.UnsetType = msgspec.UNSET


class SeededRecipe(Generated, frozen=True, tag_field="role", tag="seeded"):
    """A generated, frozen parameter."""


class SeededPart(Record, frozen=True):
    """How a tensor of an adapter is drawn that stays as the seed gives it."""

    distribution: str
    scale: float


class AdaptedRecipe(Generated, frozen=True, tag_field="role", tag="adapted"):
    """A generated parameter with an adapter.

    ``beta``: whether it is learned. ``magnitude``: whether it has one. ``vectors``: the other vectors that it learns.
    ``seeded``: the adapter's frozen factors that come from the seed. ``slices``: by factor, the parameter of whose
    factor it is a part.
    """

    fan_in_fan_out: bool
    rank: int
    alpha: float
    scaling: str
    beta: bool
    magnitude: bool | msgspec.UnsetType = msgspec.UNSET  # absent without one
    vectors: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET  # absent without any
    seeded: dict[str, SeededPart] | msgspec.UnsetType = msgspec.UNSET  # absent without any
    slices: dict[str, str] | msgspec.UnsetType = msgspec.UNSET  # absent without any
    batch_dims: int | msgspec.UnsetType = msgspec.UNSET  # left out where the weight is one matrix
    shared_factor: str | msgspec.UnsetType = msgspec.UNSET  # left out where each matrix has its own factors

    @property
    def parts(self) -> tuple[str, ...]:
        """The last names of the adapter's tensors."""
        present = dict.fromkeys(FACTORS, self.rank > 0) | {"beta": self.beta, "magnitude": self.magnitude is True}
        return tuple(part for part in ADAPTER_PARTS if present.get(part, part in (self.vectors or ())))

    @property
    def frozen(self) -> frozenset[str]:
        """The adapter's tensors that stay as they are: factors from the seed, slices, or with vectors of VeRA."""
        alone = FACTORS if set(LAMBDAS) <= set(self.vectors or ()) else ()
        return frozenset((*(self.seeded or {}), *(self.slices or {}), *alone))


class StoredRecipe(Record, frozen=True, tag_field="role", tag="stored"):
    """A parameter or buffer that the checkpoint holds."""

    group: str
    trained: bool


class TiedRecipe(Record, frozen=True, tag_field="role", tag="tied"):
    """Shares the storage of the entry ``to``."""

    to: str


ParameterRecipe = SeededRecipe | AdaptedRecipe | StoredRecipe | TiedRecipe


class Change(Record, frozen=True):
    """What of a model no tensor and no configuration tells: what is there ``now``, and what is ``due``, in words."""

    now: str
    due: str


class Recipe(Record, frozen=True, dict=True, gc=True):
    """Everything about a scaffolded model except its learned tensors.

    ``dtypes``: present dtypes, where they differ, of generated weights and of tensors that the architecture computes.
    ``mixed``: whether some floating tensors of the checkpoint do not have the dtype of the generated weights.
    ``config``: the present configuration, where it differs from the architecture's.
    ``changed``: by place, what of the model differs from what the architecture builds, and no tensor shows.
    """

    lottapack_recipe: str
    architecture: Architecture
    rng: RecipeRng
    parameters: dict[str, ParameterRecipe]
    dtypes: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    mixed: bool | msgspec.UnsetType = msgspec.UNSET
    config: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    changed: dict[str, Change] | msgspec.UnsetType = msgspec.UNSET

    @property
    def seed(self) -> int:
        """The seed as an integer from 0 to 2**64 - 1."""
        return int(self.rng.seed, 16)

    @property
    def seeds(self) -> dict[str, int]:
        """The seed of every scaffold by name, ``default`` first."""
        others = {name: int(scaffold.seed, 16) for name, scaffold in (self.rng.scaffolds or {}).items()}
        return {DEFAULT_SCAFFOLD: self.seed, **others}

    @property
    def computed(self) -> dict[str, str]:
        """The dtypes of tensors that the architecture computes, by name, where they differ from its default."""
        return {name: dtype for name, dtype in (self.dtypes or {}).items() if name not in self.parameters}

    def is_scaffold_of(self, other: "Recipe") -> bool:
        """Return whether both recipes have the same scaffold, ignoring later casts, freezing and changes.

        A pack holds the present configuration and dtypes. So the recipe of the model that it gives equals the present
        one of the model that was packed, and not what that one had at scaffold().
        """
        mine, its = ((recipe.as_scaffolded, recipe._as_packed) for recipe in (self, other))
        return any(one()._with_all_trained() == another()._with_all_trained() for one in mine for another in its)

    def _as_packed(self) -> "Recipe":
        """Return the recipe with the present configuration and dtypes as those of scaffold()."""
        parameters = {
            name: msgspec.structs.replace(entry, dtype=self.dtypes[name])
            if self.dtypes and name in self.dtypes and isinstance(entry, SeededRecipe | AdaptedRecipe)
            else entry
            for name, entry in self.parameters.items()
        }
        before = self.architecture
        architecture = (
            Architecture(family=before.family, class_=before.class_, config=self.config) if self.config else before
        )
        return msgspec.structs.replace(self, parameters=parameters, architecture=architecture).as_scaffolded()

    def takes_values_of(self, other: "Recipe") -> bool:
        """Return whether both have the same scaffold, whichever factors of adapters a pack stores or generates."""
        return self._with_any_factors().is_scaffold_of(other._with_any_factors())

    def _with_any_factors(self) -> "Recipe":
        unset = msgspec.UNSET
        parameters = {
            name: msgspec.structs.replace(entry, seeded=unset, slices=unset)
            if isinstance(entry, AdaptedRecipe)
            else entry
            for name, entry in self.parameters.items()
        }
        return msgspec.structs.replace(self, parameters=parameters)

    def as_scaffolded(self) -> "Recipe":
        """Return the recipe without what it records of the present, except what trains."""
        unset = msgspec.UNSET
        return msgspec.structs.replace(self, dtypes=unset, mixed=unset, config=unset, changed=unset)

    def _with_all_trained(self) -> "Recipe":
        parameters = {
            name: msgspec.structs.replace(entry, trained=True) if isinstance(entry, StoredRecipe) else entry
            for name, entry in self.parameters.items()
        }
        return msgspec.structs.replace(self, parameters=parameters)

    def to_bytes(self) -> bytes:
        """Return the recipe as canonical JSON in UTF-8."""
        return canonical.dumps(msgspec.to_builtins(self, enc_hook=architecture_fields))

    def resolve(self, name: str) -> str:
        """Follow ``tied`` entries to the entry that owns the storage."""
        return self._owners.get(name, name)

    @cached_property
    def _owners(self) -> dict[str, str]:
        return owners({name: entry.to for name, entry in self.parameters.items() if isinstance(entry, TiedRecipe)})

    def tables(self) -> dict[str, Table]:
        """Return the model's own tables by id."""
        tables = {}
        for table_id, table in self.rng.tables.items():
            values = np.frombuffer(base64.b64decode(table.values, validate=True), "<f4")
            tables[table_id] = custom(table_id, values)
            if tables[table_id].bits != table.bits:
                raise ValueError(f"the table {table_id!r} has {values.size} values; its bits need 2**{table.bits}")
        return tables

    def sources(self, scaffold: str = DEFAULT_SCAFFOLD) -> dict[str, Source]:
        """Return the stream of each generated parameter on a scaffold; none if torch's constructors draw them.

        Raises ScaffoldError for an unknown scaffold.
        """
        if scaffold not in self.seeds:
            raise unknown_scaffold(scaffold, self.rng.scaffolds or {})
        if self.rng.id == TORCH_CPU:
            return {}
        seed = self.seeds[scaffold]
        return {
            name: Source(seed, name, self.table_of(entry.distribution), entry.scale, entry.dtype, entry.shape)
            for name, entry in self.parameters.items()
            if isinstance(entry, SeededRecipe | AdaptedRecipe)
        }

    def adapter_sources(self, name: str, dtype: str) -> dict[str, Source]:
        """Return the streams of a parameter's adapter, by last name: of what comes from the seed, in a dtype."""
        entry = self.parameters[name]
        seeded = (entry.seeded or {}) if isinstance(entry, AdaptedRecipe) else {}
        prefix = names.adapter_prefix(name)
        return {
            part: Source(self.seed, prefix + part, self.table_of(drawn.distribution), drawn.scale, dtype)
            for part, drawn in seeded.items()
        }

    @cached_property
    def _own_tables(self) -> dict[str, Table]:
        return self.tables()

    def table_of(self, table_id: str) -> Table:
        """Return a table by its id, one of the model's own or a built-in one."""
        return self._own_tables[table_id] if table_id in self._own_tables else builtin(table_id)


def _architecture(_: type[Architecture], value: Any) -> Architecture:
    record = msgspec.convert(value, ArchitectureRecord, strict=True)
    return Architecture(family=record.family, class_=record.class_, config=record.config)


def parse(data: bytes) -> Recipe:
    """Read a recipe and check it by the descriptor's rules. Raises CheckpointError."""
    try:
        value: Any = canonical.loads(data, source="the recipe", where="recipe")
        recipe = msgspec.convert(value, Recipe, strict=True, dec_hook=_architecture)
        recipe.tables()
    except (FormatError, UnsupportedError, ValueError, msgspec.ValidationError) as fault:
        raise CheckpointError(
            f"the checkpoint's recipe cannot be read: {fault}",
            hint="Upgrade lottapack, or restore the tensor lottapack_recipe if training changed it.",
        ) from fault
    if recipe.lottapack_recipe.split(".")[0] != RECIPE_VERSION.split(".")[0]:
        raise CheckpointError(
            f"the recipe has version {recipe.lottapack_recipe}, but this lottapack knows {RECIPE_VERSION}",
            hint="Install a lottapack that knows the version of the recipe.",
        )
    _, problems = validate.check(canonical.dumps(_as_descriptor(value)), "the recipe")
    if problems:
        raise CheckpointError(f"the checkpoint's recipe breaks the format: {problems[0]}", hint=_RESTORE)
    faults = (_fault(entry) for entry in recipe.parameters.values() if isinstance(entry, AdaptedRecipe))
    for broken in filter(None, faults):
        raise CheckpointError(f"the checkpoint's recipe breaks the format: {broken}", hint=_RESTORE)
    if recipe.dtypes == {} or recipe.mixed is False or recipe.changed == {}:
        raise CheckpointError(
            "the checkpoint's recipe breaks the format: dtypes or changed is empty, or mixed is false", hint=_RESTORE
        )
    for name, dtype in (recipe.dtypes or {}).items():
        entry = recipe.parameters.get(name)
        if dtype not in FLOATING or isinstance(entry, StoredRecipe | TiedRecipe):
            raise CheckpointError(
                f"the checkpoint's recipe breaks the format: dtypes: {name} cannot be {dtype}", hint=_RESTORE
            )
    return recipe


def _fault(entry: AdaptedRecipe) -> str | None:
    """Return what is wrong with an adapter beyond the descriptor's rules."""
    if {} in (entry.seeded, entry.slices) or entry.vectors == ():
        return "vectors, seeded or slices is empty"
    if entry.vectors and (*sorted({*entry.vectors} & {*LAMBDAS, *SCALES}),) != entry.vectors:
        return f"vectors {list(entry.vectors)} should be sorted names of vectors"
    return None


def of_tensor(tensor: "torch.Tensor") -> Recipe:
    """Read the recipe from the tensor of a checkpoint. Raises CheckpointError."""
    text = bytes_of(tensor, BUFFER)
    if not text.strip(b"\0"):
        raise CheckpointError(
            "the state_dict is that of a model without values: it was built on the meta device",
            hint="Load a checkpoint into that model, or fill it from its pack, before you take its state_dict.",
        )
    return parse(text)


def own_tables(tables: Mapping[str, Table]) -> dict[str, OwnTable]:
    """Return tables as the recipe writes them."""
    return {
        name: OwnTable(bits=table.bits, values=base64.b64encode(table.values.astype("<f4").tobytes()).decode())
        for name, table in tables.items()
    }


def scaffold_seeds(seeds: Mapping[str, str]) -> dict[str, ScaffoldSeed] | msgspec.UnsetType:
    """Return additional scaffolds by name, as the recipe writes them."""
    return {name: ScaffoldSeed(seed=seed) for name, seed in seeds.items()} or msgspec.UNSET


def _coded_as(codings: Mapping[str, Coding], coding: str) -> dict[str, Coding]:
    """Return the tensors of an adapter that have a coding, by their last names."""
    return {part: held for part, held in codings.items() if held.id == coding}


def _seeded_parts(codings: Mapping[str, Coding]) -> dict[str, SeededPart]:
    """Return what of an adapter comes from the seed."""
    return {
        part: SeededPart(distribution=str(coding.distribution), scale=cast("float", coding.scale))
        for part, coding in _coded_as(codings, SEEDED).items()
    }


def of_descriptor(descriptor: Descriptor, tables: Mapping[str, Table], groups: Mapping[str, str]) -> Recipe:
    """Return the recipe of a packed model, so that it can be trained further and packed again.

    ``groups``: the groups of parameters by name, because a ``constant`` entry does not record its own.
    """
    parameters: dict[str, ParameterRecipe] = {}
    for name, entry in descriptor.parameters.items():
        if isinstance(entry, Adapted):
            tensors, codings = entry.adapter.tensors(), entry.adapter.coded()
            parameters[name] = AdaptedRecipe(
                **entry.drawn,
                fan_in_fan_out=entry.fan_in_fan_out,
                rank=entry.rank,
                alpha=entry.alpha,
                scaling=entry.scaling,
                beta="beta" in tensors,
                magnitude=True if "magnitude" in tensors else msgspec.UNSET,
                vectors=tuple(part for part in (*LAMBDAS, *SCALES) if part in tensors) or msgspec.UNSET,
                seeded=_seeded_parts(codings) or msgspec.UNSET,
                slices={part: str(coding.of) for part, coding in _coded_as(codings, SLICE).items()} or msgspec.UNSET,
                batch_dims=entry.batch_dims,
                shared_factor=entry.shared_factor,
            )
        elif isinstance(entry, Seeded):
            parameters[name] = SeededRecipe(
                **entry.drawn,
            )
        elif isinstance(entry, Stored):
            parameters[name] = StoredRecipe(group=entry.group, trained=entry.trained)
        elif isinstance(entry, Constant):
            parameters[name] = StoredRecipe(group=groups[name], trained=False)
        else:
            parameters[name] = TiedRecipe(to=entry.to)
    return Recipe(
        lottapack_recipe=RECIPE_VERSION,
        architecture=descriptor.architecture,
        rng=RecipeRng(
            id=descriptor.rng.id,
            seed=descriptor.rng.seed,
            tables=own_tables(tables),
            scaffolds=scaffold_seeds({name: entry.seed for name, entry in descriptor.scaffolds.items()}),
            torch=descriptor.rng.torch,
            capability=descriptor.rng.capability,
        ),
        parameters=parameters,
        dtypes=descriptor.computed,
    )


def scaling_factor(alpha: float, rank: int, rule: str) -> float:
    """Return the binary32 factor of ``B A`` (spec: merge, step 1; LoRA: alpha / r, rsLoRA: alpha / sqrt(r)).

    It is 1 for a rank of 0, which does not have such a product.
    """
    if not rank:
        return 1.0
    return binary32(alpha / rank if rule == "lora" else alpha / math.sqrt(rank))


def name_clashes(plan: Recipe) -> Iterator[tuple[str, str]]:
    """Yield each name that would mean two things in the pack, and what these are. Codings can add more."""
    tables = ((table_tensor(table_id), f"rng.tables.{table_id}") for table_id in plan.rng.tables)
    adapted = [name for name, entry in plan.parameters.items() if isinstance(entry, AdaptedRecipe)]
    return clashes(plan.parameters, tables, adapted)


_TENSOR = {"dtype": "float32", "sha256": "0" * 64}
_OF_THE_ADAPTER = ("beta", "magnitude", "seeded", "slices", "vectors")


def _as_descriptor(value: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe as a descriptor, with placeholders for what only packing knows: the same rules check both."""
    parameters = {}
    for name, entry in value["parameters"].items():
        known = {key: item for key, item in entry.items() if key not in _OF_THE_ADAPTER}
        if entry["role"] == "stored":
            known |= {"shape": [], **_TENSOR}
        elif entry["role"] != "tied":
            known["fingerprint"] = "0" * 16
        if entry["role"] == "adapted":
            known["adapter"] = _adapter_tensors(entry)
        parameters[name] = known
    generator = dict(value["rng"])
    generator["tables"] = {k: {"bits": table["bits"], "sha256": "0" * 64} for k, table in generator["tables"].items()}
    if "scaffolds" in generator:
        prints = {name: "0" * 16 for name, entry in parameters.items() if "fingerprint" in entry}
        scaffolds = generator["scaffolds"].items()
        generator["scaffolds"] = {name: {**scaffold, "fingerprints": prints} for name, scaffold in scaffolds}
    computed = {name: dtype for name, dtype in value.get("dtypes", {}).items() if name not in parameters}
    return {
        "lottapack": FORMAT_VERSION,
        "architecture": value["architecture"],
        "rng": generator,
        "parameters": parameters,
        "provenance": {},
    } | ({"computed": computed} if computed else {})


def _adapter_tensors(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the tensors of an adapter."""
    parts = [*(FACTORS if entry["rank"] else ()), *(["beta"] if entry["beta"] else []), *entry.get("vectors", ())]
    seeded = {part: {"id": SEEDED, **drawn} for part, drawn in entry.get("seeded", {}).items()}
    slices = {part: {"id": SLICE, "of": owner} for part, owner in entry.get("slices", {}).items()}
    coded = {part: {**_TENSOR, "coding": coding} for part, coding in (seeded | slices).items()}
    return dict.fromkeys(parts, _TENSOR) | coded
