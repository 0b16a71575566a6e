"""Reading and checking the descriptor's ``parameters`` (spec: descriptor, sections 3 and 4; refusals, section 2)."""

import math
import re
from typing import Any

from lottapack import rng
from lottapack.format import canonical, codings, dtypes
from lottapack.format.collect import HEX16, HEX64, Collector, kind_of, quote
from lottapack.format.descriptor import (
    GROUPS,
    MAX_PARAMETERS,
    RECORDS,
    SCALINGS,
    Adapted,
    Constant,
    Parameter,
    Rng,
    Seeded,
    Stored,
    Tied,
    factor_dims,
)
from lottapack.format.shapes import shape_fault


def read_parameters(out: Collector, value: Any, generator: Rng | None) -> dict[str, Parameter] | None:
    """The entries by name, or None where not all could be read. ``generator``: None if it is faulty itself."""
    if not isinstance(value, dict):
        out.add("field", "parameters", f"should be an object, not {kind_of(value)}")
        return None
    if len(value) > MAX_PARAMETERS:
        out.add("name", "parameters", f"{len(value):,} parameters; the format allows {MAX_PARAMETERS:,}")
        return None
    found: dict[str, Parameter] = {}
    for name, item in value.items():
        place = f"parameters[{quote(name)}]"
        fault = canonical.name_fault(name)
        if fault:
            out.add("name", place, fault)
        entry = _read(out, item, place)
        if entry is not None:
            found[name] = entry
            _check(out, entry, generator, place)
    _check_ties(out, found, value)
    _check_streams(out, found)
    return found if len(found) == len(value) else None


def _read(out: Collector, item: Any, place: str) -> Parameter | None:
    if not isinstance(item, dict):
        out.add("field", place, f"should be an object, not {kind_of(item)}")
        return None
    role = item.get("role")
    if not isinstance(role, str):
        out.add("field", f"{place}.role", "the role is missing or not a string")
        return None
    if role not in RECORDS:
        out.add("id", f"{place}.role", f"the role {role!r} is unknown; known: {', '.join(RECORDS)}")
        return None
    for field in ("scale", "alpha"):
        # msgspec would take an integer for a float; the format does not.
        if field in item and field in RECORDS[role].__struct_fields__ and type(item[field]) is not float:
            out.add("field", f"{place}.{field}", f"should be a float such as 1.0, not {kind_of(item[field])}")
            return None
    if isinstance(item.get("adapter"), dict):
        item = {**item, "adapter": _without_extensions(item["adapter"])}
    return out.record(item, RECORDS[role], place)


def _without_extensions(adapter: dict[str, Any]) -> dict[str, Any]:
    def strip(value: Any) -> Any:
        return {k: v for k, v in value.items() if not k.startswith("x-")} if isinstance(value, dict) else value

    return {key: strip(item) for key, item in strip(adapter).items()}


def _check(out: Collector, entry: Parameter, generator: Rng | None, place: str) -> None:
    if isinstance(entry, Tied):
        return
    allowed = dtypes.GENERATED if isinstance(entry, Seeded | Adapted) else tuple(dtypes.ITEMSIZE)
    out.known(entry.dtype, allowed, f"{place}.dtype", "dtype")
    fault = shape_fault(entry.shape, dtypes.ITEMSIZE.get(entry.dtype, 1))
    if fault:
        out.add("shape", f"{place}.shape", fault)
    if isinstance(entry, Stored):
        out.known(entry.group, GROUPS, f"{place}.group", "group")
        out.hexadecimal(entry.sha256, HEX64, f"{place}.sha256")
        _check_coding(out, entry, f"{place}.coding")
    elif isinstance(entry, Constant):
        _check_constant(out, entry, place)
    else:
        out.hexadecimal(entry.fingerprint, HEX16, f"{place}.fingerprint")
        _check_distribution(out, entry, generator, place)
        if isinstance(entry, Adapted):
            _check_adapted(out, entry, place)


def _check_coding(out: Collector, entry: Stored, place: str) -> None:
    coding = codings.coding_of(entry)
    if coding is None:
        return
    fitting = tuple(known for known, goes_with in codings.DTYPES.items() if entry.dtype in goes_with)
    out.known(coding.id, fitting, f"{place}.id", f"coding of a {entry.dtype}")
    parts = coding.parts()
    if coding.id in codings.DTYPES and ("scales" in parts) != (coding.id in codings.BLOCKS):
        out.add("field", place, f"{coding.id} has {'no ' if 'scales' in parts else ''}scales")
    for part, sha256 in parts.items():
        out.hexadecimal(sha256, HEX64, f"{place}.{part}")


def _check_constant(out: Collector, entry: Constant, place: str) -> None:
    digits = 2 * dtypes.ITEMSIZE.get(entry.dtype, 0)
    right = re.fullmatch(f"[0-9a-f]{{{digits}}}", entry.value) is not None
    if digits and (not right or (entry.dtype == "bool" and entry.value not in ("00", "01"))):
        form = '"00" or "01"' if entry.dtype == "bool" else f"{digits} lower-case hexadecimal digits"
        out.add("value", f"{place}.value", f"the value of a {entry.dtype} should be {form}")


def _check_distribution(out: Collector, entry: Seeded | Adapted, generator: Rng | None, place: str) -> None:
    """A built-in table here; the values of a pack's own are known only when its tensor is read."""
    if generator is not None and generator.id == rng.TORCH_CPU:
        out.known(entry.distribution, (rng.CONSTRUCTOR,), f"{place}.distribution", "distribution")
        if entry.scale != 1:
            out.add("scale", f"{place}.scale", f"with {rng.TORCH_CPU} the scale is 1.0")
    elif entry.distribution in rng.BUILTIN:
        if entry.dtype in dtypes.GENERATED:
            fault = rng.fault_between(*rng.EXTREMES[entry.distribution], entry.scale, entry.dtype)
            if fault:
                out.add("scale", f"{place}.scale", fault)
    elif generator is not None:
        out.known(entry.distribution, (*rng.BUILTIN, *generator.tables), f"{place}.distribution", "distribution")


def _check_adapted(out: Collector, entry: Adapted, place: str) -> None:
    out.known(entry.scaling, SCALINGS, f"{place}.scaling", "scaling")
    if not (math.isfinite(entry.alpha) and entry.alpha > 0):
        out.add("scale", f"{place}.alpha", "alpha must be above 0")
    for name, tensor in entry.adapter.tensors().items():
        out.known(tensor.dtype, dtypes.GENERATED, f"{place}.adapter.{name}.dtype", "dtype")
        out.hexadecimal(tensor.sha256, HEX64, f"{place}.adapter.{name}.sha256")
    if len(entry.shape) < 2 or 0 in entry.shape:
        out.add("shape", f"{place}.shape", "an adapter needs a weight of two or more dimensions and no zero")
    elif entry.fan_in_fan_out and len(entry.shape) != 2:
        out.add("shape", f"{place}.fan_in_fan_out", "only a weight of two dimensions can be stored as (in, out)")
    else:
        most = min(factor_dims(entry.shape, entry.fan_in_fan_out))
        if not 1 <= entry.rank <= most:
            out.add("shape", f"{place}.rank", f"the rank {entry.rank} is not from 1 to {most}")


def _check_ties(out: Collector, found: dict[str, Parameter], declared: dict[str, Any]) -> None:
    grounded = {name for name, entry in found.items() if not isinstance(entry, Tied)}
    for name, entry in found.items():
        path: dict[str, None] = {}  # in the order of the way, and quick to look a name up in
        while isinstance(entry, Tied) and name not in grounded:
            place = f"parameters[{quote(name)}].to"
            if name in path:
                out.add("tied", place, "the ties go round in a circle")
                break
            path[name] = None
            if entry.to not in declared:
                out.add("tied", place, f"there is no parameter {quote(entry.to)}")
                break
            name = entry.to
            if name not in found:
                break
            entry = found[name]
        grounded.update(path)


def _check_streams(out: Collector, found: dict[str, Parameter]) -> None:
    seen: dict[int, str] = {}
    for name, entry in found.items():
        if isinstance(entry, Seeded | Adapted):
            stream = rng.stream_of(name)
            if stream in seen:
                out.add(
                    "name", f"parameters[{quote(name)}]", f"has the same stream as {quote(seen[stream])}: rename one"
                )
            seen[stream] = name
