"""Convert a recipe to the form of a descriptor, so that the same rules check both (spec: recipe)."""

from typing import Any

from lottapack.format.codings import SEEDED, SLICE
from lottapack.format.descriptor import FACTORS, FORMAT_VERSION

_TENSOR = {"dtype": "float32", "sha256": "0" * 64}
_OF_THE_ADAPTER = ("beta", "magnitude", "seeded", "slices", "vectors")


def as_descriptor(value: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe as a descriptor, with placeholders for what only packing knows."""
    parameters = {}
    for name, entry in value["parameters"].items():
        known = {key: item for key, item in entry.items() if key not in _OF_THE_ADAPTER}
        if entry["role"] == "stored":
            known |= {"shape": [], **_TENSOR}
        elif entry["role"] != "tied":
            known["fingerprint"] = "0" * 16
        if entry["role"] == "adapted":
            known["adapter"] = _adapter(entry)
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


def _adapter(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the tensors of an adapter."""
    parts = [*(FACTORS if entry["rank"] else ()), *(["beta"] if entry["beta"] else []), *entry.get("vectors", ())]
    seeded = {part: {"id": SEEDED, **drawn} for part, drawn in entry.get("seeded", {}).items()}
    slices = {part: {"id": SLICE, "of": owner} for part, owner in entry.get("slices", {}).items()}
    coded = {part: {**_TENSOR, "coding": coding} for part, coding in (seeded | slices).items()}
    return dict.fromkeys(parts, _TENSOR) | coded
