"""What a packer asks of names and recipes."""

from collections.abc import Iterable

from lottapack.errors import CheckpointError
from lottapack.format.recipe import AdaptedRecipe, SeededRecipe, StoredRecipe, TiedRecipe
from lottapack.format.shapes import numel


def require_names(found: Iterable[tuple[str, str]]) -> None:
    """Raise CheckpointError for the first name that would mean two things in the pack."""
    for name, message in found:
        raise CheckpointError(
            f"{name} {message}",
            hint="Rename the module or parameter; or leave the layer out of targets, or its group without coding.",
        )


def generated_elements(entry: AdaptedRecipe | SeededRecipe | StoredRecipe | TiedRecipe) -> int:
    """How many elements of a parameter are generated."""
    return numel(entry.shape) if isinstance(entry, AdaptedRecipe | SeededRecipe) else 0
