"""Check the names of a pack before it is written."""

from collections.abc import Iterable

from lottapack.errors import CheckpointError
from lottapack.format.recipe import AdaptedRecipe, SeededRecipe, StoredRecipe, TiedRecipe
from lottapack.format.shapes import numel


def require_names(found: Iterable[tuple[str, str]]) -> None:
    """Raise CheckpointError for the first name that would mean two things in the pack."""
    for name, message in found:
        raise CheckpointError(
            f"{name} {message}",
            hint="Rename the module or parameter, leave the layer out of `targets`, or choose another coding for its "
            "group.",
        )


def generated_elements(entry: AdaptedRecipe | SeededRecipe | StoredRecipe | TiedRecipe) -> int:
    """Return how many elements of a parameter are generated."""
    return numel(entry.shape) if isinstance(entry, AdaptedRecipe | SeededRecipe) else 0
