"""How a backbone is drawn: generator, scale and dtype."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Final

from torch import nn

from lottapack import rng
from lottapack.errors import ScaffoldError
from lottapack.format import dtypes
from lottapack.format.descriptor import MAX_SCAFFOLDS, seed_text
from lottapack.format.factors import factors
from lottapack.format.recipe import RecipeRng, own_tables, scaffold_seeds
from lottapack.format.scaffolds import name_fault, twins
from lottapack.nn.frozen import fans
from lottapack.nn.kinds import inputs_first
from lottapack.nn.select import Entry, PerLayer

Rule = Callable[[int, int], float]
"""From ``(d_out, d_in)`` of a weight to its standard deviation."""

RULES: Final[dict[str, Rule]] = {
    "lecun": lambda _, d_in: 1 / math.sqrt(d_in),
    "kaiming": lambda _, d_in: math.sqrt(2 / d_in),
    "xavier": lambda d_out, d_in: math.sqrt(2 / (d_out + d_in)),
    "spectral_radius": lambda d_out, d_in: 0.95 / math.sqrt(min(d_out, d_in)),
    "orthonormal": lambda d_out, d_in: 1 / math.sqrt(max(d_out, d_in)),
}
"""The paper's default; He et al. 2015, for ReLU; Glorot and Bengio 2010; the spectral radius 0.95 of the paper; and the
length 1 of rows or columns of ``hadamard``.

A square matrix of n x n independent numbers with mean 0 and deviation s has a spectral radius near ``s * sqrt(n)`` for
large n (Geman 1986): a formula, not a measurement of each matrix. A weight that is not square has no spectral radius:
the formula uses its largest square part.
"""


@dataclass(frozen=True, slots=True)
class Width:
    """The standard deviation of weights: from a rule, or from the factor of the table.

    ``init``: the name of a rule, or a rule; ``scale``: the factor. At most one is given; neither is ``"lecun"``.
    Raises ScaffoldError for invalid values.
    """

    init: str | Rule | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and not (isinstance(self.scale, Real) and 0 < self.scale < math.inf):
            raise ScaffoldError(
                f"scale={self.scale!r} must be a number above 0",
                hint="It is the factor of the table. Pass a rule for the standard deviation as `init`.",
            )
        if (
            self.init is not None
            and not callable(self.init)
            and not (isinstance(self.init, str) and self.init in RULES)
        ):
            raise ScaffoldError(
                f"init={self.init!r}: unknown rule",
                hint=f"Choose one of {', '.join(RULES)}, or pass a function of (d_out, d_in), or a number as `scale`.",
            )
        if self.init is not None and self.scale is not None:
            raise ScaffoldError(
                "`init` and `scale` both set the standard deviation of weights", hint="Leave one of them out."
            )

    def factor(self, entry: Entry, table: rng.Table) -> float:
        """Return the factor of a table for a weight. Raises ScaffoldError."""
        if self.scale is not None:
            return float(self.scale)
        shape = tuple(entry.tensor.shape)
        # An embedding outputs rows of its weight, so the rule sees the transposed shape of a linear layer.
        in_out = inputs_first(entry.module) and not isinstance(entry.module, nn.Embedding)
        sides = factors(shape, in_out)[1:] if entry.can_generate else fans(entry)
        d_out, d_in = (max(fan, 1) for fan in sides)
        wanted = (self.init if callable(self.init) else RULES[self.init or "lecun"])(d_out, d_in)
        if not isinstance(wanted, Real) or not (math.isfinite(wanted) and wanted > 0):
            raise ScaffoldError(
                f"{entry.name}: `init` returns the standard deviation {wanted!r}",
                hint="Return a number above 0 for each pair (d_out, d_in).",
            )
        own = deviation(table)
        if own == 0:
            raise ScaffoldError(f"the table {table.id!r} only contains zeros", hint="Pass a number as `scale`.")
        return float(wanted) / own


def check_seed(seed: int) -> None:
    """Raise ScaffoldError for an invalid seed."""
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise ScaffoldError(f"seed={seed!r} must be an integer from 0 to 2**64 - 1", hint="Choose another one.")


def tables_of(distribution: str | rng.Table | Mapping[str, str | rng.Table]) -> PerLayer[rng.Table]:
    """Return the table of each layer. Raises UnsupportedError for the id of a table that is not built in."""

    def found(one: str | rng.Table) -> rng.Table:
        if not isinstance(one, str | rng.Table):
            raise ScaffoldError(
                f"distribution={one!r} must be the id of a table, a Table, or these by pattern",
                hint=f"Choose one of {', '.join(rng.BUILTIN)}, or make a table with lottapack.table().",
            )
        return rng.builtin(str(one)) if isinstance(one, str) else one

    if isinstance(distribution, Mapping):
        return PerLayer({pattern: found(one) for pattern, one in distribution.items()}, "distribution")
    return PerLayer(found(distribution), "distribution")


def recipe_rng(seed: int, tables: Iterable[rng.Table], scaffolds: Mapping[str, int] | None = None) -> RecipeRng:
    """Return the generator of a recipe. ``scaffolds``: more seeds by name. Raises ScaffoldError for an invalid one.

    Also raises it if two tables have the same id.
    """
    own: dict[str, rng.Table] = {}
    for table in tables:
        if table.id not in rng.BUILTIN and own.setdefault(table.id, table) != table:
            raise ScaffoldError(f"two different tables have the id {table.id!r}", hint="Give each its own id.")
    if not isinstance(scaffolds, Mapping | None):
        raise ScaffoldError(
            f"scaffolds={scaffolds!r} must be seeds by name", hint='Pass, for example, scaffolds={"task-b": 43}.'
        )
    seeds = {name: seed_text(_checked(name, other)) for name, other in (scaffolds or {}).items()}
    if len(seeds) > MAX_SCAFFOLDS:
        raise ScaffoldError(
            f"{len(seeds)} scaffolds; a pack has at most {MAX_SCAFFOLDS} beside the default one", hint="Leave some out."
        )
    for name, other_name in twins(seed_text(seed), seeds):
        raise ScaffoldError(f"the scaffolds {name!r} and {other_name!r} have the same seed", hint="Give each its own.")
    return RecipeRng(id=rng.ALGORITHM, seed=seed_text(seed), tables=own_tables(own), scaffolds=scaffold_seeds(seeds))


def _checked(name: str, seed: int) -> int:
    """Return the seed of a scaffold, after checking its name and the seed."""
    fault = name_fault(name) if isinstance(name, str) else "a name is text"
    if fault:
        raise ScaffoldError(f"the scaffold {name!r}: {fault}", hint="Choose another name.")
    check_seed(seed)
    return seed


def scale_and_dtype(entry: Entry, table: rng.Table, width: Width) -> tuple[float, str]:
    """Return the scale, a binary32 number, and the dtype of a weight. Raises ScaffoldError."""
    dtype = drawn_dtype(entry)
    found = rng.binary32(width.factor(entry, table))
    fault = rng.scale_fault(table, found, dtype)
    if fault:
        raise ScaffoldError(f"{entry.name}: {fault}", hint="Choose another `init` or `scale`.")
    return found, dtype


def require_held(entry: Entry) -> None:
    """Raise ScaffoldError for a tensor that a pack cannot store, before the training instead of after it."""
    if dtypes.dtype_name(entry.tensor.dtype) not in dtypes.ITEMSIZE:
        raise ScaffoldError(
            f"{entry.name} is {entry.tensor.dtype}, which the format does not support",
            hint="Keep it in another dtype (a complex tensor by torch.view_as_real()), or make it a buffer "
            "that is computed when the model is built: register_buffer(..., persistent=False).",
        )


def drawn_dtype(entry: Entry) -> str:
    """Return the dtype of a weight that is generated. Raises ScaffoldError if it cannot be generated."""
    dtype = dtypes.dtype_name(entry.tensor.dtype)
    if dtype not in dtypes.GENERATED:
        raise ScaffoldError(
            f"{entry.name} is {dtype}, but lottapack only generates {', '.join(dtypes.GENERATED)}",
            hint="Convert the model to one of these.",
        )
    return dtype


def deviation(table: rng.Table) -> float:
    """Return the nominal standard deviation of a table: 1 for the normal tables, whatever their width.

    For a custom table it is the root mean square of the entries. With a mean of zero, that is the standard
    deviation; with another mean, it still keeps a layer's outputs as large as its inputs.
    """
    if table.id in rng.BUILTIN:
        return 1 / math.sqrt(3) if table.id == "uniform16" else 1.0
    return math.sqrt(math.fsum(float(value) ** 2 for value in table.values) / len(table.values))


def default_scale(entry: Entry, table: rng.Table) -> float:
    """Return the factor for the standard deviation 1 / sqrt(d_in), in an embedding 1 / sqrt(embedding_dim)."""
    return Width().factor(entry, table)


def factor_bound(entry: Entry) -> float:
    """Return the bound of the uniform initial values of ``lora_A``: 1 / sqrt(d_in), by Kaiming's rule."""
    if entry.can_generate or entry.kind is None:
        return default_scale(entry, rng.builtin("normal16"))
    kind = entry.kind
    return 1 / math.sqrt(factors(tuple(entry.tensor.shape), kind.fan_in_fan_out, kind.batch_dims).d_in)
