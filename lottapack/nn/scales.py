"""How a backbone is drawn: generator, scale and dtype."""

import math
from collections.abc import Mapping

from torch import nn

from lottapack import rng
from lottapack.errors import ScaffoldError
from lottapack.format import dtypes
from lottapack.format.descriptor import MAX_SCAFFOLDS, factor_dims, seed_text
from lottapack.format.recipe import RecipeRng, own_tables, scaffold_seeds
from lottapack.format.scaffolds import name_fault, twins
from lottapack.nn.attach import stored_as_in_out
from lottapack.nn.select import Entry


def check_seed_and_scale(seed: int, scale: float | None) -> None:
    """Raise ScaffoldError for a seed or a scale that none can be."""
    if not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ScaffoldError(f"seed={seed!r}: a seed is an integer from 0 to 2**64 - 1")
    if scale is not None and not (math.isfinite(scale) and scale > 0):
        raise ScaffoldError(f"scale={scale!r}: the scale is a number above 0")


def recipe_rng(seed: int, table: rng.Table, scaffolds: Mapping[str, int] | None = None) -> RecipeRng:
    """The generator as a recipe names it. ``scaffolds``: more seeds by name. Raises ScaffoldError for one of these."""
    tables = {} if table.id in rng.BUILTIN else own_tables({table.id: table})
    seeds = {name: seed_text(_checked(name, other)) for name, other in (scaffolds or {}).items()}
    if len(seeds) > MAX_SCAFFOLDS:
        raise ScaffoldError(f"{len(seeds)} scaffolds; a pack has at most {MAX_SCAFFOLDS} beside the default one")
    for name, other_name in twins(seed_text(seed), seeds):
        raise ScaffoldError(f"the scaffolds {name!r} and {other_name!r} have the same seed", hint="Give each its own.")
    return RecipeRng(id=rng.ALGORITHM, seed=seed_text(seed), tables=tables, scaffolds=scaffold_seeds(seeds))


def _checked(name: str, seed: int) -> int:
    """The seed of a scaffold, if its name and its seed are such."""
    fault = name_fault(name)
    if fault:
        raise ScaffoldError(f"the scaffold {name!r}: {fault}")
    check_seed_and_scale(seed, None)
    return seed


def scale_and_dtype(entry: Entry, table: rng.Table, scale: float | None) -> tuple[float, str]:
    """The scale, a binary32 number (by default default_scale()), and the dtype of a weight. Raises ScaffoldError."""
    dtype = drawn_dtype(entry)
    found = rng.binary32(scale if scale is not None else default_scale(entry, table))
    fault = rng.scale_fault(table, found, dtype)
    if fault:
        raise ScaffoldError(f"{entry.name}: {fault}")
    return found, dtype


def drawn_dtype(entry: Entry) -> str:
    """The dtype of a weight that is drawn. Raises ScaffoldError for one that cannot be."""
    dtype = dtypes.dtype_name(entry.tensor.dtype)
    if dtype not in dtypes.GENERATED:
        raise ScaffoldError(f"{entry.name} is {dtype}; lottapack draws {', '.join(dtypes.GENERATED)}")
    return dtype


def deviation(table: rng.Table) -> float:
    """The standard deviation that a table stands for, around zero: 1 for the normal tables, whatever their width."""
    if table.id in rng.BUILTIN:
        return 1 / math.sqrt(3) if table.id == "uniform16" else 1.0
    return math.sqrt(math.fsum(float(value) ** 2 for value in table.values) / len(table.values))


def default_scale(entry: Entry, table: rng.Table) -> float:
    """The factor that gives a table the standard deviation 1 / sqrt(d_in), in an embedding 1 / sqrt(embedding_dim)."""
    shape = tuple(entry.tensor.shape)
    if isinstance(entry.module, nn.Embedding):
        fan = shape[1]
    else:
        _, fan = factor_dims(shape, stored_as_in_out(entry.module))
    return 1 / math.sqrt(max(fan, 1)) / deviation(table)
