"""From the descriptor's bytes to its records, or to a list of everything that is wrong with it.

Problems are collected with their places and raised once (spec: refusals, section 2).
"""

import re
from typing import Any

from lottapack import rng
from lottapack.arch.rules import architecture_problems
from lottapack.errors import DescriptorError, Problem
from lottapack.format import canonical
from lottapack.format.collect import HEX16, HEX64, Collector, kind_of, quote
from lottapack.format.descriptor import FORMAT_VERSION, TABLE_ID, Architecture, Descriptor, Rng, TableRecord
from lottapack.format.entries import read_parameters
from lottapack.format.scaffolds import check_scaffolds, read_scaffolds
from lottapack.rng.scales import WIDTHS

_VERSION = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})")
_MAJOR, _, _MINOR = FORMAT_VERSION.partition(".")
_KNOWN = int(_MAJOR), int(_MINOR)
_PRINTABLE = re.compile(r"[!-~]{1,64}")
_FIELDS = ("lottapack", "architecture", "rng", "parameters", "provenance")


def _numbers(match: re.Match[str]) -> tuple[int, int]:
    return int(match[1]), int(match[2])


def parse(data: bytes, source: str) -> Descriptor:
    """Read a descriptor. ``source`` names the file in errors. Raises DescriptorError with every problem found."""
    value = canonical.loads(data, source=source, where="descriptor", error=DescriptorError)
    descriptor, problems = check(value)
    if descriptor is None or problems:
        said = value.get("lottapack") if isinstance(value, dict) else None
        match = _VERSION.fullmatch(said) if isinstance(said, str) else None
        newer = match is not None and _numbers(match) > _KNOWN
        hint = f"It says format {said}; a newer lottapack may have written it: upgrade lottapack." if newer else ""
        raise DescriptorError(source, problems, hint=hint)
    return descriptor


def check(value: Any) -> tuple[Descriptor | None, list[Problem]]:
    """The descriptor in a JSON value, and everything that is wrong with it; None where it cannot be read."""
    out = Collector()
    return _descriptor(out, value), out.problems


def _descriptor(out: Collector, value: Any) -> Descriptor | None:
    if not isinstance(value, dict):
        out.add("field", "descriptor", f"should be an object, not {kind_of(value)}")
        return None
    if not _check_version(out, value.get("lottapack")):
        return None
    for name in _FIELDS:
        if name not in value:
            out.add("field", "descriptor", f"the field {name} is missing")
    for name in value:
        if name not in _FIELDS and not name.startswith("x-"):
            out.add("field", "descriptor", f"the field {quote(name)} is unknown")
    architecture = _architecture(out, value["architecture"]) if "architecture" in value else None
    generator = _generator(out, value["rng"]) if "rng" in value else None
    parameters = read_parameters(out, value["parameters"], generator) if "parameters" in value else None
    if generator is not None:
        check_scaffolds(out, generator, parameters)
    _check_provenance(out, value.get("provenance", {}))
    if out.problems or architecture is None or generator is None or parameters is None:
        return None
    return Descriptor(
        lottapack=value["lottapack"],
        architecture=architecture,
        rng=generator,
        parameters=parameters,
        provenance=value["provenance"],
    )


def _check_version(out: Collector, text: Any) -> bool:
    match = _VERSION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        out.add("version", "lottapack", 'the format version is missing or not of the form "1.0"')
    elif match[1] != _MAJOR:
        out.add("version", "lottapack", f"this reader knows format {FORMAT_VERSION}, not {text}")
        match = None
    return match is not None


def _architecture(out: Collector, value: Any) -> Architecture | None:
    architecture = out.record(value, Architecture, "architecture")
    if architecture is not None:
        out.problems += architecture_problems(architecture.family, architecture.class_, architecture.config)
    return architecture


def _generator(out: Collector, value: Any) -> Rng | None:
    if isinstance(value, dict) and isinstance(value.get("tables"), dict):
        tables = {}
        for table_id, item in value["tables"].items():
            entry = _table(out, table_id, item)
            tables[table_id] = {"bits": entry.bits, "sha256": entry.sha256} if entry else None
        if None in tables.values():
            return None
        value = {**value, "tables": tables}
    if isinstance(value, dict) and "scaffolds" in value:
        scaffolds = read_scaffolds(out, value["scaffolds"])
        if scaffolds is None:
            return None
        value = {**value, "scaffolds": scaffolds}
    generator = out.record(value, Rng, "rng")
    if generator is not None:
        out.known(generator.id, (rng.ALGORITHM, rng.TORCH_CPU), "rng.id", "generator")
        out.hexadecimal(generator.seed, HEX16, "rng.seed")
        _check_versions(out, generator)
    return generator


def _check_versions(out: Collector, generator: Rng) -> None:
    """The fields that go with ``torch-cpu`` and with no other generator (spec: torch_cpu, section 1)."""
    versions = {"torch": generator.torch, "capability": generator.capability}
    if generator.id != rng.TORCH_CPU:
        for name, version in versions.items():
            if isinstance(version, str):
                out.add("field", "rng", f"the field {name} goes with {rng.TORCH_CPU} only")
        return
    for name, version in versions.items():
        if not isinstance(version, str):
            out.add("field", "rng", f"the field {name} is missing")
        elif not _PRINTABLE.fullmatch(version):
            out.add("field", f"rng.{name}", "should be 1 to 64 printable ASCII characters without spaces")
    if generator.tables:
        out.add("field", "rng.tables", f"{rng.TORCH_CPU} has no tables")
    if generator.scaffolds:
        out.add("field", "rng", f"the field scaffolds does not go with {rng.TORCH_CPU}")


def _table(out: Collector, table_id: str, item: Any) -> TableRecord | None:
    place = f"rng.tables[{quote(table_id)}]"
    if not TABLE_ID.fullmatch(table_id) or table_id in (*rng.BUILTIN, rng.CONSTRUCTOR):
        out.add("id", place, "a table's id is lower-case letters, digits and _, none of the format's own")
    entry = out.record(item, TableRecord, place)
    if entry is not None:
        if entry.bits not in WIDTHS:
            out.add("field", f"{place}.bits", f"a table has 1, 2, 4, 8 or 16 bits, not {entry.bits}")
        out.hexadecimal(entry.sha256, HEX64, f"{place}.sha256")
    return entry


def _check_provenance(out: Collector, value: Any) -> None:
    if not isinstance(value, dict):
        out.add("field", "provenance", f"should be an object, not {kind_of(value)}")
        return
    for key, item in value.items():
        if not isinstance(item, str):
            out.add("field", f"provenance[{quote(key)}]", f"should be a string, not {kind_of(item)}")
