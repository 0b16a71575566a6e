"""Check whether all names of a recipe can be in one pack (spec: container, section 5)."""

from collections.abc import Iterator

from lottapack.format.names import clashes, table_tensor
from lottapack.format.recipe import AdaptedRecipe, Recipe


def name_clashes(plan: Recipe) -> Iterator[tuple[str, str]]:
    """Yield each name that would mean two things in the pack, and what these are. Codings can add more."""
    tables = ((table_tensor(table_id), f"rng.tables.{table_id}") for table_id in plan.rng.tables)
    adapted = [name for name, entry in plan.parameters.items() if isinstance(entry, AdaptedRecipe)]
    return clashes(plan.parameters, tables, adapted)
