"""Read and check the descriptor's ``parameters`` (spec: descriptor, sections 3 and 4; refusals, section 2)."""

import math
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any, cast

import msgspec

from lottapack import rng
from lottapack.codecs import CODECS
from lottapack.format import codings, dtypes, names
from lottapack.format.collect import HEX16, HEX64, Collector, quote, without_extensions
from lottapack.format.descriptor import (
    FACTORS,
    GROUPS,
    LAMBDAS,
    MAX_PARAMETERS,
    RECORDS,
    SCALINGS,
    Adapted,
    Adapter,
    Coding,
    Constant,
    Parameter,
    Rng,
    Seeded,
    Stored,
    Tied,
)
from lottapack.format.factors import adapter_shapes, batch_dims_of, factors_of
from lottapack.format.shapes import shape_fault
from lottapack.rng.stream import HADAMARD, matrix_fault
from lottapack.strict_json.rewritten import is_canonical
from lottapack.strict_json.text import JsonText


def read_parameters(out: Collector, text: JsonText, generator: Rng | None) -> dict[str, Parameter] | None:
    """Return the entries by name, or None if one cannot be read. ``generator``: None if it is invalid itself."""
    if not text.is_object:
        out.add("field", "parameters", f"should be an object, not {text.kind}")
        return None
    if len(text) > MAX_PARAMETERS * len('"":0,'):
        many = sum(1 for _ in text.members())
        if many > MAX_PARAMETERS:
            out.add("name", "parameters", f"has {many:,} parameters; the format allows {MAX_PARAMETERS:,}")
            return None
    count, found = 0, dict[str, Parameter]()
    for name, item in text.members():
        count += 1
        place = f"parameters[{quote(name)}]"
        fault = names.name_fault(name)
        if fault:
            out.add("name", place, fault)
        entry = _read(out, item, place)
        if entry is not None:
            found[name] = entry
            _check(out, entry, generator, place)
    faulty: set[str] = set()
    if len(found) < count:
        loose = {entry.to for entry in found.values() if isinstance(entry, Tied) and entry.to not in found}
        faulty = {name for name, _ in text.members() if name in loose}
    _check_together(out, found, faulty)
    return found if len(found) == count else None


def are_right(found: dict[str, Parameter], generator: Rng) -> bool:
    """Return whether all entries that usual_fields() gave are right.

    Those of a large model differ mostly in names and digests. So everything else is checked once for each form.
    """
    if len(found) > MAX_PARAMETERS or any(map(names.name_fault, found)):
        return False
    out, forms = Collector(), set[tuple[Any, ...]]()
    for name, entry in found.items():
        form = None if isinstance(entry, Tied) else _form(entry)
        if form is None or form in forms:
            continue
        if not _is_canonical(form):
            return False
        _check(out, entry, generator, name)
        if out.problems:
            return False
        if len(forms) < _FORMS:
            forms.add(form)
    _check_together(out, found, set())
    return not out.problems


def _form(record: msgspec.Struct) -> tuple[Any, ...]:
    """Return the type and the fields of a record, with True in place of each right digest."""
    kind = type(record)
    digests, inner = _places(kind)
    values: list[Any] = [kind, *msgspec.structs.astuple(record)]
    for place, pattern in digests:
        if values[place] is not msgspec.UNSET and pattern.fullmatch(values[place]):
            values[place] = True
    for place in inner:
        if values[place] is not msgspec.UNSET:
            values[place] = _form(values[place])
    return tuple(values)


_FORMS = 1024
"""The forms that are remembered, so that they take little memory in a pack of many."""
_DIGESTS = {"fingerprint": HEX16, "sha256": HEX64, "codes": HEX64, "scales": HEX64}


@cache
def _places(kind: type[msgspec.Struct]) -> tuple[list[tuple[int, re.Pattern[str]]], list[int]]:
    """Return which places of a form have digests, with their patterns, and which have records."""
    fields = [*enumerate(kind.__struct_fields__, 1)]
    digests = [(place, _DIGESTS[field]) for place, field in fields if field in _DIGESTS]
    inner = ("adapter", "coding", *(names.ADAPTER_PARTS if kind is Adapter else ()))
    return digests, [place for place, field in fields if field in inner]


def _is_canonical(form: tuple[Any, ...]) -> bool:
    """Return whether all numbers of a form are in range and written alike by msgspec and in canonical JSON."""
    numbers = all(is_canonical(value) for value in form if isinstance(value, int | float))
    return numbers and all(_is_canonical(value) for value in form if isinstance(value, tuple))


def _read(out: Collector, text: JsonText, place: str) -> Parameter | None:
    item = out.entry(text, place)
    if item is None:
        return None
    role = item.get("role")
    if not isinstance(role, str):
        out.add("field", f"{place}.role", "the role is missing or not a string")
        return None
    if role not in RECORDS:
        out.add("id", f"{place}.role", f"unknown role {role[:100]!r}; it should be one of {', '.join(RECORDS)}")
        return None
    if isinstance(item.get("adapter"), dict):
        adapter = without_extensions(item["adapter"])
        item["adapter"] = {key: without_extensions(tensor) for key, tensor in adapter.items()}
    return out.record(item, RECORDS[role], place)


def _check(out: Collector, entry: Parameter, generator: Rng | None, place: str) -> None:
    if isinstance(entry, Tied):
        return
    allowed = dtypes.GENERATED if isinstance(entry, Seeded | Adapted) else tuple(dtypes.ITEMSIZE)
    out.known(entry.dtype, allowed, f"{place}.dtype", "dtype")
    fault = _shape_fault(entry.shape, dtypes.ITEMSIZE.get(entry.dtype, 1))
    if fault:
        out.add("shape", f"{place}.shape", fault)
    if isinstance(entry, Stored):
        out.known(entry.group, GROUPS, f"{place}.group", "group")
        out.hexadecimal(entry.sha256, HEX64, f"{place}.sha256")
        _check_coding(out, entry.dtype, codings.coding_of(entry), f"{place}.coding")
    elif isinstance(entry, Constant):
        _check_constant(out, entry, place)
    else:
        out.hexadecimal(entry.fingerprint, HEX16, f"{place}.fingerprint")
        _check_distribution(out, entry, generator, place)
        if isinstance(entry, Adapted):
            _check_adapted(out, entry, generator, place)


def _check_coding(out: Collector, dtype: str, coding: Coding | None, place: str, *, seeded: bool = False) -> None:
    """``seeded``: whether it may come from the seed."""
    if coding is None:
        return
    fitting = tuple(codec.id for codec in CODECS.values() if dtype in dtypes.ITEMSIZE and codec.fits(dtype))
    fitting += tuple(codings.WITHOUT_BYTES) if seeded else ()
    out.known(coding.id, fitting, f"{place}.id", f"coding of a {dtype}")
    if coding.id in codings.FIELDS:
        for field in sorted(coding.given ^ codings.FIELDS[coding.id])[:1]:
            out.add("field", place, f"{coding.id} {'does not have' if field in coding.given else 'has'} {field}")
    for part, sha256 in coding.parts().items():
        out.hexadecimal(sha256, HEX64, f"{place}.{part}")


def _check_constant(out: Collector, entry: Constant, place: str) -> None:
    digits = 2 * dtypes.ITEMSIZE.get(entry.dtype, 0)
    right = re.fullmatch(f"[0-9a-f]{{{digits}}}", entry.value) is not None
    if digits and (not right or (entry.dtype == "bool" and entry.value not in ("00", "01"))):
        form = '"00" or "01"' if entry.dtype == "bool" else f"{digits} lower-case hexadecimal digits"
        out.add("value", f"{place}.value", f"the value of a {entry.dtype} should be {form}")


def _check_distribution(out: Collector, entry: Seeded | Adapted, generator: Rng | None, place: str) -> None:
    """Check a built-in table's scale here; a pack's own table is checked when its tensor is read."""
    if generator is not None and generator.id == rng.TORCH_CPU:
        out.known(entry.distribution, (rng.CONSTRUCTOR,), f"{place}.distribution", "distribution")
        if entry.scale != 1:
            out.add("scale", f"{place}.scale", f"the scale should be 1.0 with {rng.TORCH_CPU}")
    elif entry.distribution in rng.BUILTIN:
        if entry.dtype in dtypes.GENERATED:
            fault = _scale_fault(entry.distribution, entry.scale, entry.dtype)
            if fault:
                out.add("scale", f"{place}.scale", fault)
        fault = matrix_fault(entry.shape) if entry.distribution == HADAMARD else None
        if fault:
            out.add("shape", f"{place}.shape", fault)
    elif generator is not None:
        out.known(entry.distribution, (*rng.BUILTIN, *generator.tables), f"{place}.distribution", "distribution")


_shape_fault = lru_cache(maxsize=1024)(shape_fault)
"""Weights of one model have few shapes."""


@lru_cache(maxsize=1024)
def _scale_fault(distribution: str, scale: float, dtype: str) -> str | None:
    return rng.fault_between(*rng.EXTREMES[distribution], scale, dtype)


def _check_adapted(out: Collector, entry: Adapted, generator: Rng | None, place: str) -> None:
    out.known(entry.scaling, SCALINGS, f"{place}.scaling", "scaling")
    if not (math.isfinite(entry.alpha) and entry.alpha > 0):
        out.add("scale", f"{place}.alpha", "alpha should be finite and above 0")
    for name, tensor in entry.adapter.tensors().items():
        out.known(tensor.dtype, dtypes.GENERATED, f"{place}.adapter.{name}.dtype", "dtype")
        out.hexadecimal(tensor.sha256, HEX64, f"{place}.adapter.{name}.sha256")
        coding = None if tensor.coding is msgspec.UNSET else tensor.coding
        where = f"{place}.adapter.{name}.coding"
        seeded = name in FACTORS and (generator is None or generator.id == rng.ALGORITHM)
        _check_coding(out, tensor.dtype, coding, where, seeded=seeded)
        drawn = coding is not None and coding.id == codings.SEEDED and coding.given == codings.FIELDS[coding.id]
        if coding is not None and seeded and drawn:
            if coding.distribution == HADAMARD:
                out.add("id", f"{where}.distribution", f"{HADAMARD} is for weights, not for their adapters")
            else:
                _check_distribution(out, _drawn_as(tensor.dtype, coding), generator, where)
    if entry.shared_factor is not msgspec.UNSET:
        out.known(entry.shared_factor, FACTORS, f"{place}.shared_factor", "shared factor")
        if entry.batch_dims is msgspec.UNSET:
            out.add("shape", f"{place}.shared_factor", "is only valid with batch_dims")
    if len(entry.shape) < 2 or 0 in entry.shape:
        out.add(
            "shape", f"{place}.shape", "a weight with an adapter should have two or more dimensions, none of them 0"
        )
    elif entry.batch_dims is not msgspec.UNSET and not 1 <= batch_dims_of(entry) <= len(entry.shape) - 2:
        most = len(entry.shape) - 2
        out.add("shape", f"{place}.batch_dims", f"{entry.batch_dims} should be from 1 to {most}")
    else:
        _check_rank(out, entry, place)


def _check_rank(out: Collector, entry: Adapted, place: str) -> None:
    """Check the rank, and that the adapter has the tensors that belong together."""
    held, place_of_tensors = entry.adapter.tensors().keys(), f"{place}.adapter"
    sides, vectors = factors_of(entry), held & set(LAMBDAS)
    if not held & set(FACTORS):
        if entry.rank:
            out.add("field", place_of_tensors, f"a rank of {entry.rank} needs lora_A and lora_B")
        elif vectors or not held - {"magnitude"}:
            out.add(
                "field", place_of_tensors, "a rank of 0 needs beta, scale_in or scale_out, and no lambda_b or lambda_d"
            )
        return
    for pair in (FACTORS, LAMBDAS):
        if len(held & set(pair)) == 1:
            out.add("field", place_of_tensors, f"{pair[0]} and {pair[1]} belong together")
            return
    most = sides.most_with_vectors if vectors else sides.most
    if not 1 <= entry.rank <= most:
        out.add("shape", f"{place}.rank", f"the rank {entry.rank} should be from 1 to {most}")


def _check_together(out: Collector, found: dict[str, Parameter], faulty: set[str]) -> None:
    """Check what entries say of each other. ``faulty``: see _check_ties()."""
    _check_ties(out, found, faulty)
    coded = {name: entry.adapter.coded() for name, entry in found.items() if isinstance(entry, Adapted)}
    coded = {name: tensors for name, tensors in coded.items() if tensors}
    _check_streams(out, found, coded)
    _check_slices(out, found, coded)


def _check_ties(out: Collector, found: dict[str, Parameter], faulty: set[str]) -> None:
    """Follow each tie once. ``faulty``: targets of ties whose entries could not be read.

    While ties are followed, the number of the walk replaces each visited tie in the dict, because a second dict would
    take half as much memory as the entries themselves.
    """
    if not any(isinstance(entry, Tied) for entry in found.values()):
        return
    entries = list(found.values())
    marked = cast("dict[str, Parameter | int]", found)
    for walk, name in enumerate(found):
        entry: Parameter | int | None = marked[name]
        while isinstance(entry, Tied):
            marked[name] = walk
            target = marked.get(entry.to)
            if target is None and entry.to not in faulty:
                out.add("tied", f"parameters[{quote(name)}].to", f"the parameter {quote(entry.to)} does not exist")
            name, entry = entry.to, target
        if entry == walk:
            out.add("tied", f"parameters[{quote(name)}].to", "the ties form a circle")
    found.update(zip(found, entries, strict=True))


def _drawn_as(dtype: str, coding: Coding) -> Seeded:
    """A tensor of an adapter that comes from the seed, as the parameter whose rules it follows."""
    distribution, scale = str(coding.distribution), float(coding.scale)  # type: ignore[arg-type]
    return Seeded(shape=(), dtype=dtype, distribution=distribution, scale=scale, fingerprint="")


def _drawn(found: dict[str, Parameter], coded: dict[str, dict[str, Coding]]) -> Iterator[str]:
    """Yield the names of what comes from the seed: parameters, each followed by the tensors of its adapter."""
    for name, entry in found.items():
        if isinstance(entry, Seeded | Adapted):
            yield name
            for part, coding in coded[name].items() if name in coded else ():
                if coding.id == codings.SEEDED:
                    yield names.adapter_prefix(name) + part


def _check_slices(out: Collector, found: dict[str, Parameter], coded: dict[str, dict[str, Coding]]) -> None:
    """Check that each slice is part of a factor that is not a slice itself. ``coded``: by parameter and last name."""
    for name, tensors in coded.items():
        for part, coding in tensors.items():
            if coding.id == codings.SLICE and isinstance(coding.of, str):
                entry = cast("Adapted", found[name])
                fault = _slice_fault(found.get(coding.of), entry, part)
                if fault:
                    out.add(
                        fault[0],
                        f"parameters[{quote(name)}].adapter.{part}.coding.of",
                        f"{quote(coding.of)} {fault[1]}",
                    )


def _slice_fault(owner: Parameter | None, entry: Adapted, part: str) -> tuple[str, str] | None:
    """Return the kind of fault and what is wrong with the owner of a slice, or None."""
    whole = owner.adapter.tensors().get(part) if isinstance(owner, Adapted) else None
    if whole is None or not isinstance(owner, Adapted):
        return "tied", f"is not a parameter whose adapter has {part}"
    if isinstance(whole.coding, Coding) and whole.coding.id == codings.SLICE:
        return "tied", f"has a {part} that is itself a slice of another one"
    if whole.dtype != entry.adapter.tensors()[part].dtype:
        return "tied", f"has {part} in {whole.dtype}"
    if batch_dims_of(owner) or batch_dims_of(entry):
        return "shape", "and this parameter should both be one matrix"
    if not (owner.shape and entry.shape):  # refused for that already
        return None
    mine, its = adapter_shapes(entry)[part], adapter_shapes(owner)[part]
    if any(own > other for own, other in zip(mine, its, strict=True)):
        return "shape", f"has {part} of shape {list(its)}, which does not contain {list(mine)}"
    return None


def _check_streams(out: Collector, found: dict[str, Parameter], coded: dict[str, dict[str, Coding]]) -> None:
    seen: dict[int, str] = {}
    for name in _drawn(found, coded):
        stream = rng.stream_of(name)
        if stream in seen:
            out.add(
                "name",
                f"parameters[{quote(name)}]",
                f"has the same stream as {quote(seen[stream])}; rename one of them",
            )
        seen[stream] = name
