"""Reading and checking ``rng.scaffolds`` (spec: descriptor, section 6)."""

from collections.abc import Iterable, Mapping
from typing import Any

from lottapack.format.collect import HEX16, Collector, kind_of, quote
from lottapack.format.descriptor import (
    DEFAULT_SCAFFOLD,
    MAX_SCAFFOLDS,
    SCAFFOLD_NAME,
    Adapted,
    Parameter,
    Rng,
    ScaffoldRecord,
    Seeded,
)


def place_of(name: str, parameter: str | None = None) -> str:
    """Where a scaffold stands in the descriptor, or its fingerprint of a parameter."""
    where = f"rng.scaffolds[{quote(name)}]"
    return where if parameter is None else f"{where}.fingerprints[{quote(parameter)}]"


def name_fault(name: str) -> str | None:
    """What is wrong with the name of a scaffold beside the default one, or None."""
    if name == DEFAULT_SCAFFOLD:
        return f"{DEFAULT_SCAFFOLD!r} is the scaffold of the main seed"
    if not SCAFFOLD_NAME.fullmatch(name):
        return "a name is 1 to 64 lower-case letters, digits, points, dashes and _, and begins with a letter or digit"
    return None


def twins(main: str, seeds: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Each scaffold whose seed another had before it, and that one's name."""
    seen = {main: DEFAULT_SCAFFOLD}
    for name, seed in seeds.items():
        if seen.setdefault(seed, name) != name:
            yield name, seen[seed]


def read_scaffolds(out: Collector, value: Any) -> dict[str, Any] | None:
    """The entries by name as plain objects without fields to be ignored, or None where one cannot be read."""
    if not isinstance(value, dict):
        out.add("field", "rng.scaffolds", f"should be an object, not {kind_of(value)}")
        return None
    if not 1 <= len(value) <= MAX_SCAFFOLDS:
        out.add("field", "rng.scaffolds", f"names {len(value)} scaffolds; it should name 1 to {MAX_SCAFFOLDS}")
        return None
    found = {name: _read(out, name, item) for name, item in value.items()}
    return None if None in found.values() else found


def _read(out: Collector, name: str, item: Any) -> dict[str, Any] | None:
    place = place_of(name)
    fault = name_fault(name)
    if fault:
        out.add("id", place, fault)
    prints = item.get("fingerprints") if isinstance(item, dict) else None
    if isinstance(prints, dict):
        for parameter, text in prints.items():
            if not isinstance(text, str):
                out.add("field", place_of(name, parameter), f"should be a string, not {kind_of(text)}")
                return None
            out.hexadecimal(text, HEX16, place_of(name, parameter))
    entry = out.record(item, ScaffoldRecord, place)
    if entry is None:
        return None
    out.hexadecimal(entry.seed, HEX16, f"{place}.seed")
    return {"seed": entry.seed, "fingerprints": entry.fingerprints}


def check_scaffolds(out: Collector, generator: Rng, parameters: Mapping[str, Parameter] | None) -> None:
    """Seeds that differ, and a fingerprint for each generated parameter. ``parameters``: None where they are faulty."""
    scaffolds = generator.scaffolds or {}
    for name, other in twins(generator.seed, {name: entry.seed for name, entry in scaffolds.items()}):
        out.add("scaffold", f"{place_of(name)}.seed", f"has the seed of the scaffold {other!r}")
    if parameters is None:
        return
    generated = {name for name, entry in parameters.items() if isinstance(entry, Seeded | Adapted)}
    for name, entry in scaffolds.items():
        wrong = sorted(generated ^ entry.fingerprints.keys())
        if wrong:
            what = "is missing" if wrong[0] in generated else "belongs to no generated parameter"
            out.add("scaffold", f"{place_of(name)}.fingerprints", f"the fingerprint of {quote(wrong[0])} {what}")
