"""The packs in ``files/valid``: each shows one thing that a reader must accept."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import (  # noqa: F401 (they fill the list)
    valid_architectures,
    valid_basics,
    valid_codings,
    valid_computed,
    valid_files,
    valid_limits,
    valid_scaffolds,
    valid_sizes,
)
from .model import Model
from .shown import CASES


@dataclass(frozen=True)
class Valid:
    """A pack, and what its sidecar says."""

    name: str
    sidecar: dict[str, Any]
    data: bytes


def digests(model: Model) -> dict[str, str]:
    """The SHA-256 of every plain parameter, little-endian, in its recorded dtype."""
    made: dict[str, str] = {}
    for name in sorted(model.parameters):
        way = [name]
        while model.parameters[way[-1]]["role"] == "tied" and way[-1] not in made:
            way.append(model.parameters[way[-1]]["to"])
        digest = made.get(way[-1]) or hashlib.sha256(model.plain[way[-1]]).hexdigest()
        made.update(dict.fromkeys(way, digest))
    return dict(sorted(made.items()))


def weights(model: Model) -> dict[str, Any]:
    """What a sidecar says of the weights of one scaffold."""
    entries = sorted(model.parameters.items())
    fingerprints = {name: entry["fingerprint"] for name, entry in entries if "fingerprint" in entry}
    return {"fingerprints": fingerprints, "merged_sha256": digests(model)}


def cases() -> Iterator[Valid]:
    """All of them."""
    for name, (why, buildable, make) in CASES.items():
        model = make()
        sidecar = {"why": why, "buildable": buildable, **weights(model)}
        if model.scaffolds:
            sidecar["scaffolds"] = {name: weights(twin) for name, twin in sorted(model.scaffolds.items())}
        if model.files:
            sidecar["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(model.files.items())}
        yield Valid(name, sidecar, model.file())
