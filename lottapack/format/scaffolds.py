"""Read and check ``rng.scaffolds`` (spec: descriptor, section 6)."""

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import NamedTuple

from lottapack.format.collect import HEX16, Collector, quote
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
from lottapack.strict_json.text import JsonText


def place_of(name: str, parameter: str | None = None) -> str:
    """Return the location of a scaffold in the descriptor, or of its fingerprint of a parameter."""
    where = f"rng.scaffolds[{quote(name)}]"
    return where if parameter is None else f"{where}.fingerprints[{quote(parameter)}]"


def name_fault(name: str) -> str | None:
    """Return what is wrong with the name of an additional scaffold, or None."""
    if name == DEFAULT_SCAFFOLD:
        return f"{DEFAULT_SCAFFOLD!r} is the scaffold of the main seed"
    if not SCAFFOLD_NAME.fullmatch(name):
        return (
            "a name should be 1 to 64 lower-case letters, digits, points, dashes and _, and begin with a letter or "
            "digit"
        )
    return None


def twins(main: str, seeds: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Yield each scaffold that has the seed of an earlier one, and the earlier one's name."""
    seen = {main: DEFAULT_SCAFFOLD}
    for name, seed in seeds.items():
        if seen.setdefault(seed, name) != name:
            yield name, seen[seed]


class Scaffolds(NamedTuple):
    """Scaffolds by name, and for each the first fingerprint, if any, that does not belong to a parameter."""

    records: dict[str, ScaffoldRecord]
    strays: dict[str, str]


def read_scaffolds(out: Collector, text: JsonText, parameters: Iterable[str]) -> Scaffolds | None:
    """Return the entries by name, or None if one cannot be read. ``parameters``: their names."""
    if not text.is_object:
        out.add("field", "rng.scaffolds", f"should be an object, not {text.kind}")
        return None
    count = sum(1 for _ in text.members())
    if not 1 <= count <= MAX_SCAFFOLDS:
        out.add("field", "rng.scaffolds", f"names {count} scaffolds; it should name 1 to {MAX_SCAFFOLDS}")
        return None
    names = {name: name for name in parameters}
    scaffolds = Scaffolds({}, {})
    for name, item in text.members():
        entry = _read(out, name, item, names, scaffolds.strays)
        if entry is not None:
            scaffolds.records[name] = entry
    return scaffolds if len(scaffolds.records) == count else None


def _read(
    out: Collector, name: str, text: JsonText, names: Mapping[str, str], strays: dict[str, str]
) -> ScaffoldRecord | None:
    place = place_of(name)
    fault = name_fault(name)
    if fault:
        out.add("id", place, fault)
    fields = out.fields(text, place, large=("fingerprints",))
    if fields is None:
        return None
    prints = text.member("fingerprints")
    if prints is not None and prints.is_object:
        fields["fingerprints"] = {}
        for parameter, item in prints.members():
            if not item.is_string:
                out.add("field", place_of(name, parameter), f"should be a string, not {item.kind}")
                return None
            digits = item.string_bytes()[:17].decode(errors="replace")
            out.hexadecimal(digits, HEX16, place_of(name, parameter))
            if parameter in names:
                fields["fingerprints"][names[parameter]] = digits
            else:
                strays.setdefault(name, parameter)
    entry = out.record(fields, ScaffoldRecord, place)
    if entry is None:
        return None
    out.hexadecimal(entry.seed, HEX16, f"{place}.seed")
    return entry


def check_scaffolds(
    out: Collector, generator: Rng, strays: Mapping[str, str], parameters: Mapping[str, Parameter] | None
) -> None:
    """Check that seeds differ and every generated parameter has a fingerprint. ``parameters``: None if invalid."""
    scaffolds = generator.scaffolds or {}
    for name, other in twins(generator.seed, {name: entry.seed for name, entry in scaffolds.items()}):
        out.add("scaffold", f"{place_of(name)}.seed", f"has the seed of the scaffold {other!r}")
    if parameters is None or not scaffolds:
        return
    generated = {name for name, entry in parameters.items() if isinstance(entry, Seeded | Adapted)}
    for name, entry in scaffolds.items():
        missing = (key for key in generated if key not in entry.fingerprints)
        others = (key for key in entry.fingerprints if key not in generated)
        wrong = min(chain(missing, others, [strays[name]] if name in strays else []), default=None)
        if wrong is not None:
            what = "is missing" if wrong in generated else "does not belong to a generated parameter"
            out.add("scaffold", f"{place_of(name)}.fingerprints", f"the fingerprint of {quote(wrong)} {what}")
