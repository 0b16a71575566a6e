"""Find the first field of an object, in the order of its text, that a record has otherwise (spec: refusals, 2)."""

from functools import cache
from typing import Any

from msgspec import inspect


def integer_for_float(fields: dict[str, Any]) -> bool:
    """Return whether an entry has an integer where a float is due, which msgspec would accept."""
    adapter = fields.get("adapter")
    tensors = adapter.values() if isinstance(adapter, dict) else ()
    codings = [tensor.get("coding") for tensor in (fields, *tensors) if isinstance(tensor, dict)]
    held = (fields.get("alpha"), *(part.get("scale") for part in (fields, *codings) if isinstance(part, dict)))
    return any(type(value) is int for value in held)


def form_fault(value: dict[str, Any], kind: type) -> tuple[str, str]:
    """Return the place in an object, and the fault, of its first field that a record does not have or has otherwise.

    A missing field counts after all others of its object.
    """
    fault = _fault(value, _type(kind))
    assert fault is not None, "the object has the form of the record"
    return fault


def kind_of(value: Any) -> str:
    """Return the JSON kind of a value."""
    names: dict[type, str] = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    names |= {int: "an integer", float: "a float"}
    return names.get(type(value), "null")


@cache
def _type(kind: type) -> inspect.Type:
    return inspect.type_info(kind)


def _fault(value: Any, due: inspect.Type) -> tuple[str, str] | None:
    name, kind = _NAMES[type(due)]
    if not isinstance(value, kind) or type(value) is not kind:
        return "", f"should be {name}, not {kind_of(value)}"
    if isinstance(due, inspect.VarTupleType):
        kinds = (kind_of(item) for item in value if type(item) is not int)
        wrong = next(kinds, None)
        return ("", f"should only have integers, not {wrong}") if wrong else None
    return _object_fault(value, due) if isinstance(due, inspect.StructType) else None


def _object_fault(value: dict[str, Any], due: inspect.StructType) -> tuple[str, str] | None:
    fields = {field.encode_name: field for field in due.fields}
    for name, item in value.items():
        if name == due.tag_field:
            continue
        if name not in fields:
            return "", f"the field {name[:100]!r} is unknown"
        fault = _fault(item, fields[name].type)
        if fault is not None:
            return f".{name}{fault[0]}", fault[1]
    missing = next((name for name, field in fields.items() if field.required and name not in value), None)
    return None if missing is None else ("", f"the field {missing} is missing")


_NAMES: dict[type[inspect.Type], tuple[str, type[Any]]] = {
    inspect.StrType: ("a string", str),
    inspect.IntType: ("an integer", int),
    inspect.FloatType: ("a float such as 1.0", float),
    inspect.BoolType: ("true or false", bool),
    inspect.VarTupleType: ("an array of integers", list),
    inspect.DictType: ("an object", dict),
    inspect.StructType: ("an object", dict),
}
