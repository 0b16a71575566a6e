"""The configuration of an architecture, which its library builds: of some thirty model types and the other families."""

import json
import random
from collections.abc import Iterator
from functools import cache

import configs

from lottapack.format.descriptor import Architecture

TIMEOUT = 60
"""Of the clock, on a busy machine; the limit that counts is of processor time."""
RSS_MB = 6000
"""With the modules of all libraries; what an input takes beside is measured by itself."""


class CostError(Exception):
    """A configuration that took too long, too much memory, or ended in another error than lottapack's."""


@cache
def _seeds() -> dict[str, configs.Seed]:
    found = [*configs.calls(), *(configs.seed_of(name) for name in configs.SOME)]
    return {seed.name: seed for seed in found if seed is not None}


def prepare() -> None:
    """Import what builds the first inputs."""
    _seeds()


def _written(seed: configs.Seed, architecture: Architecture) -> bytes:
    return json.dumps({"seed": seed.name, "config": architecture.config}).encode()


def seeds() -> Iterator[bytes]:
    """Each as it is."""
    for seed in _seeds().values():
        yield _written(seed, seed.architecture)


def mutated(data: bytes, seed: int) -> bytes | None:
    """One or two values of a configuration are others."""
    try:
        said = json.loads(data)
        known = _seeds()[said["seed"]]
        start = Architecture(family=known.architecture.family, class_=known.architecture.class_, config=said["config"])
        changed = next(configs.mutations(configs.Seed(known.name, start, known.budget), random.Random(seed)))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return None
    return _written(known, changed)


def one(data: bytes) -> None:
    """Build what a configuration says, with the table of the model that it was before."""
    try:
        said = json.loads(data)
        known = _seeds()[said["seed"]]
        config = said["config"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    if isinstance(config, dict):
        architecture = Architecture(family=known.architecture.family, class_=known.architecture.class_, config=config)
        found = configs.fault(architecture, known.budget, known.allow)
        if found:
            raise CostError(found)
