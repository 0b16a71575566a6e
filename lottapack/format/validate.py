"""Turn the descriptor's bytes into records, or into a list of everything that is wrong with them.

Problems are collected with their locations and raised together (spec: refusals, section 2).
"""

import re
from collections.abc import Iterable, Mapping

import msgspec

from lottapack import rng
from lottapack.errors import DescriptorError, Problem
from lottapack.format import canonical
from lottapack.format.collect import HEX16, HEX64, MOST, Collector, quote
from lottapack.format.computed import read_computed
from lottapack.format.descriptor import (
    FORMAT_VERSION,
    MAX_PROVENANCE,
    TABLE_ID,
    Architecture,
    ArchitectureRecord,
    Descriptor,
    Parameter,
    Rng,
    TableRecord,
)
from lottapack.format.entries import are_right, read_parameters
from lottapack.format.files import read_files
from lottapack.format.results import in_json, read_results
from lottapack.format.rules import architecture_problems
from lottapack.format.scaffolds import Scaffolds, check_scaffolds, read_scaffolds
from lottapack.format.usual import usual_fields
from lottapack.rng.scales import WIDTHS
from lottapack.strict_json.text import JsonText

_VERSION = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})")
_MAJOR, _, _MINOR = FORMAT_VERSION.partition(".")
_KNOWN = int(_MAJOR), int(_MINOR)
_LONGEST_VERSION = 21  # with its quotes
_PRINTABLE = re.compile(r"[!-~]{1,64}")
_NO_VERSION = 'the format version is missing or does not have the form "1.0"'
_FIELDS = ("lottapack", "architecture", "rng", "parameters", "provenance")
_KNOWN_FIELDS = (*_FIELDS, "computed", "files", "x-results")


def _numbers(match: re.Match[str]) -> tuple[int, int]:
    return int(match[1]), int(match[2])


def parse(data: bytes, source: str) -> Descriptor:
    """Read a descriptor. ``source`` names the file in errors. Raises DescriptorError with every problem."""
    descriptor, problems = check(data, source)
    if descriptor is None or problems:
        said = _version(JsonText(data))
        match = _VERSION.fullmatch(said) if said is not None else None
        newer = match is not None and _numbers(match) > _KNOWN
        hint = f"It has format {said}, which a newer lottapack may have written. Upgrade lottapack." if newer else ""
        raise DescriptorError(source, problems, hint=hint)
    return descriptor


def check(data: bytes, source: str) -> tuple[Descriptor | None, list[Problem]]:
    """Return a descriptor, or None if it cannot be read, and everything that is wrong with it.

    Raises DescriptorError if it is not canonical JSON.
    """
    usual = _usual(data)
    if usual is not None:
        return usual, []
    out = Collector()
    return _descriptor(
        out, canonical.view(data, source=source, where="descriptor", error=DescriptorError)
    ), out.problems


def _usual(data: bytes) -> Descriptor | None:
    """Return a descriptor, or None if it is unusual or faulty, so that its parts must be read by themselves."""
    found, out = usual_fields(data), Collector()
    if found is None or not _check_version(out, _said(found[0]["lottapack"])):
        return None
    return _read(out, *found)


def _version(text: JsonText) -> str | None:
    return _said(text.member("lottapack")) if text.is_object else None


def _said(version: JsonText | None) -> str | None:
    short = version is not None and version.is_string and len(version) <= _LONGEST_VERSION
    return str(version.value()) if version is not None and short else None


def _descriptor(out: Collector, text: JsonText) -> Descriptor | None:
    if not text.is_object:
        out.add("field", "descriptor", f"should be an object, not {text.kind}")
        return None
    if not _check_version(out, _version(text)):
        return None
    value: dict[str, JsonText] = {}
    unknown: list[str] = []
    for name, item in text.members():
        if name in _KNOWN_FIELDS:
            value[name] = item
        elif not name.startswith("x-") and len(unknown) < MOST:
            unknown.append(name)
    for name in _FIELDS:
        if name not in value:
            out.add("field", "descriptor", f"the field {name} is missing")
    for name in unknown:
        out.add("field", "descriptor", f"the field {quote(name)} is unknown")
    return _read(out, value, None)


def _read(out: Collector, value: dict[str, JsonText], usual: dict[str, Parameter] | None) -> Descriptor | None:
    """Return the descriptor, or None if it has faults.

    ``usual``: the entries of usual_fields(); their faults are not collected.
    """
    version, held, names = _said(value.get("lottapack")), value.get("parameters"), _names(value, usual)
    architecture = _architecture(out, value["architecture"]) if "architecture" in value else None
    generator, strays = _generator(out, value["rng"], names) if "rng" in value else (None, {})
    if usual is None:
        parameters = read_parameters(out, held, generator) if held is not None else None
    else:
        parameters = usual if generator is not None and are_right(usual, generator) else None
    if generator is not None:
        check_scaffolds(out, generator, strays, parameters)
    provenance = _provenance(out, value["provenance"]) if "provenance" in value else None
    computed = read_computed(out, value["computed"], parameters or ()) if "computed" in value else msgspec.UNSET
    files = read_files(out, value["files"]) if "files" in value else msgspec.UNSET
    if (
        out.problems
        or version is None
        or files is None
        or architecture is None
        or generator is None
        or parameters is None
        or provenance is None
    ):
        return None
    return Descriptor(
        lottapack=version,
        architecture=architecture,
        rng=generator,
        parameters=parameters,
        provenance=provenance,
        computed=computed,
        files=files,
        results=in_json(read_results(value.get("x-results"))) or msgspec.UNSET,
    )


def _names(value: Mapping[str, JsonText], usual: Iterable[str] | None) -> Iterable[str]:
    """Return the names of the parameters, whose entries may not be read yet."""
    held = value.get("parameters")
    if usual is not None:
        return usual
    return (name for name, _ in held.members()) if held is not None and held.is_object else ()


def _check_version(out: Collector, text: str | None) -> bool:
    match = None if text is None else _VERSION.fullmatch(text)
    if match is None:
        out.add("version", "lottapack", _NO_VERSION)
    elif match[1] != _MAJOR:
        out.add("version", "lottapack", f"has format {text}, but this reader knows {FORMAT_VERSION}")
        match = None
    return match is not None


def _architecture(out: Collector, text: JsonText) -> Architecture | None:
    fields = out.fields(text, "architecture", large=("config",))
    if fields is None:
        return None
    record = out.record(fields, ArchitectureRecord, "architecture")
    config = text.member("config")
    if record is None or config is None:
        return None
    for problem in architecture_problems(record.family, record.class_, config):
        out.add(problem.kind, problem.where, problem.message)
    return Architecture(family=record.family, class_=record.class_, config=JsonText(config.text()))


def _generator(out: Collector, text: JsonText, parameters: Iterable[str]) -> tuple[Rng | None, dict[str, str]]:
    """Return the generator, and the fingerprints in its scaffolds that do not belong to one of the ``parameters``."""
    fields = out.fields(text, "rng", large=("tables", "scaffolds"))
    if fields is None:
        return None, {}
    held = text.member("tables")
    tables = _tables(out, held) if held is not None and held.is_object else {}
    if tables is None:
        return None, {}
    scaffolds: Scaffolds | None = None
    if (others := text.member("scaffolds")) is not None:
        scaffolds = read_scaffolds(out, others, parameters)
        if scaffolds is None:
            return None, {}
    generator = out.record(fields, Rng, "rng")
    if generator is None:
        return None, {}
    records = scaffolds.records if scaffolds else msgspec.UNSET
    generator = msgspec.structs.replace(generator, tables=tables, scaffolds=records)
    out.known(generator.id, (rng.ALGORITHM, rng.TORCH_CPU), "rng.id", "generator")
    out.hexadecimal(generator.seed, HEX16, "rng.seed")
    _check_versions(out, generator)
    return generator, scaffolds.strays if scaffolds else {}


def _check_versions(out: Collector, generator: Rng) -> None:
    """Check the fields that only ``torch-cpu`` has (spec: torch_cpu, section 1)."""
    versions = {"torch": generator.torch, "capability": generator.capability}
    if generator.id != rng.TORCH_CPU:
        for name, version in versions.items():
            if isinstance(version, str):
                out.add("field", "rng", f"only {rng.TORCH_CPU} can have the field {name}")
        return
    for name, version in versions.items():
        if not isinstance(version, str):
            out.add("field", "rng", f"the field {name} is missing")
        elif not _PRINTABLE.fullmatch(version):
            out.add("field", f"rng.{name}", "should be 1 to 64 printable ASCII characters without spaces")
    if generator.tables:
        out.add("field", "rng.tables", f"{rng.TORCH_CPU} cannot have tables")
    if generator.scaffolds:
        out.add("field", "rng", f"{rng.TORCH_CPU} cannot have the field scaffolds")


def _tables(out: Collector, text: JsonText) -> dict[str, TableRecord] | None:
    tables: dict[str, TableRecord] = {}
    faulty = False
    for table_id, item in text.members():
        entry = _table(out, table_id, item)
        if entry is None:
            faulty = True
        else:
            tables[table_id] = entry
    return None if faulty else tables


def _table(out: Collector, table_id: str, text: JsonText) -> TableRecord | None:
    place = f"rng.tables[{quote(table_id)}]"
    if not TABLE_ID.fullmatch(table_id) or table_id in (*rng.BUILTIN, rng.CONSTRUCTOR):
        form = "a table's id should be lower-case letters, digits and _, a letter first, and at most 64"
        out.add("id", place, f"{form}, and not one of the format's own")
    fields = out.entry(text, place)
    entry = out.record(fields, TableRecord, place) if fields is not None else None
    if entry is not None:
        if entry.bits not in WIDTHS:
            out.add("field", f"{place}.bits", f"a table should have 1, 2, 4, 8 or 16 bits, not {entry.bits}")
        out.hexadecimal(entry.sha256, HEX64, f"{place}.sha256")
    return entry


def _provenance(out: Collector, text: JsonText) -> dict[str, str] | None:
    if not text.is_object:
        out.add("field", "provenance", f"should be an object, not {text.kind}")
        return None
    count = sum(1 for _ in text.members())
    if count > MAX_PROVENANCE:
        out.add("field", "provenance", f"names {count:,} tools; it should name at most {MAX_PROVENANCE}")
        return None
    provenance: dict[str, str] = {}
    for key, item in text.members():
        if item.is_string:
            provenance[key] = item.value()
        else:
            out.add("field", f"provenance[{quote(key)}]", f"should be a string, not {item.kind}")
    return provenance
