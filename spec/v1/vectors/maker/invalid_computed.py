"""Faults of ``computed``: descriptor.md, section 7."""

from collections.abc import Iterator
from typing import Any

from .canonical import canonical
from .invalid_form import fault
from .small import Invalid, small


def at(name: str) -> str:
    """The place of a computed tensor."""
    return f"computed{canonical([name]).decode()}"


def cases() -> Iterator[Invalid]:
    """All of them."""
    long, faults = "n" * 1025, dict[str, tuple[str, str, str, Any]]()
    faults["array"] = "field", "computed", "an array", []
    faults["none"] = "field", "computed", "no name in the field", {}
    faults["too_many"] = "field", "computed", "10,001 names", {f"t{number}": "float32" for number in range(10_001)}
    faults["number"] = "field", at("table"), "a number for a dtype", {"table": 16}
    faults["object"] = "field", at("table"), "an object for a dtype", {"table": {"dtype": "float16"}}
    faults["integer"] = "id", at("table"), "an integer dtype", {"table": "int64"}
    faults["unknown"] = "id", at("table"), "an unknown dtype", {"table": "float8"}
    faults["long"] = "id", at("table"), "a text of 100,000 bytes for a dtype", {"table": "f" * 100_000}
    faults["parameter"] = "name", at("2.bias"), "the name of a parameter", {"2.bias": "float16"}
    faults["empty"] = "name", at(""), "an empty name", {"": "float16"}
    faults["slash"] = "name", at("a/b"), "a slash in a name", {"a/b": "float16"}
    faults["name_too_long"] = "name", at(long[:97] + "..."), "a name of 1,025 bytes", {long: "float16"}
    for name, (kind, where, why, value) in faults.items():
        model = small()
        model.descriptor["computed"] = value
        yield fault(f"computed_{name}", kind, where, why, model.file())
