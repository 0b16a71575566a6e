"""Compute the fingerprints that the descriptor records (spec: fingerprint; descriptor, section 6)."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec

from lottapack import rng
from lottapack.format.descriptor import DEFAULT_SCAFFOLD, Adapted, Parameter, ScaffoldRecord, Seeded, seed_text
from lottapack.format.recipe import Recipe
from lottapack.format.shapes import numel


def of_source(source: rng.Source, shape: tuple[int, ...]) -> str:
    """Return the fingerprint of what a source generates, 16 hex digits."""
    return rng.fingerprint_hex(rng.fingerprint_of(source, numel(shape)))


def scaffold_records(
    plan: Recipe, parameters: Mapping[str, Parameter], progress: Callable[[int], None]
) -> dict[str, ScaffoldRecord] | msgspec.UnsetType:
    """Return a recipe's additional scaffolds for these parameters. ``progress`` is called with the elements done."""
    others = {name: seed for name, seed in plan.seeds.items() if name != DEFAULT_SCAFFOLD}
    shapes = {name: entry.shape for name, entry in parameters.items() if isinstance(entry, Seeded | Adapted)}
    done = 0
    sources = plan.sources()
    records = {}
    for scaffold, seed in others.items():
        prints = {}
        for name, shape in shapes.items():
            prints[name] = of_source(replace(sources[name], seed=seed), shape)
            done += numel(shape)
            progress(done)
        records[scaffold] = ScaffoldRecord(seed=seed_text(seed), fingerprints=prints)
    return records or msgspec.UNSET
