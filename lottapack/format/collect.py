"""Collect everything that is wrong with a descriptor, each problem with its location."""

import re
from json.encoder import encode_basestring
from typing import Any, TypeVar

import msgspec

from lottapack.errors import Problem
from lottapack.strict_json.text import JsonText

_T = TypeVar("_T")
MOST = 1000
"""The most problems that are collected for one file."""
MAX_ENTRY = 32_768
"""The most bytes of one entry's text: a tensor, a parameter, a table (spec: container, section 1; descriptor, 1)."""
_MOST_FIELDS = 32  # no record has as many fields, so an object with more has unknown ones
HEX16 = re.compile(r"[0-9a-f]{16}")
HEX64 = re.compile(r"[0-9a-f]{64}")


class Collector:
    """A list of problems, and checks that add to it."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, kind: str, where: str, message: str) -> None:
        """Add a problem, unless there are MOST already (kinds: spec, refusals)."""
        if len(self.problems) < MOST:
            self.problems.append(Problem(kind, where, message))

    def entry(self, text: JsonText, where: str) -> dict[str, Any] | None:
        """Return the fields of an entry without those named ``x-...`` (spec: descriptor, section 2), or None."""
        if not text.is_object:
            self.add("field", where, f"should be an object, not {text.kind}")
            return None
        if len(text) > MAX_ENTRY:
            self.add("field", where, f"has {len(text):,} bytes; the format allows {MAX_ENTRY:,} bytes for an entry")
            return None
        value: dict[str, Any] = text.value()
        return value if text.data.find(b'"x-', text.begin, text.end) < 0 else without_extensions(value)

    def fields(self, text: JsonText, where: str, large: tuple[str, ...] = ()) -> dict[str, Any] | None:
        """Return the fields of an object that is not an entry, without those named ``x-...``, or None.

        ``large``: the fields that may be large; an empty object stands for each that is an object.
        """
        if not text.is_object:
            self.add("field", where, f"should be an object, not {text.kind}")
            return None
        fields: dict[str, Any] = {}
        for name, item in text.members():
            if name.startswith("x-"):
                continue
            if name in large and (item.is_object or len(item) > MAX_ENTRY):
                fields[name] = {} if item.is_object else None
            elif len(item) > MAX_ENTRY:
                self.add("field", f"{where}.{name[:100]}", f"has more than {MAX_ENTRY:,} bytes")
                return None
            elif len(fields) < _MOST_FIELDS:
                fields[name] = item.value()
        return fields

    def record(self, fields: dict[str, Any], kind: type[_T], where: str) -> _T | None:
        """Convert the fields of an object to a record."""
        try:
            return msgspec.convert(fields, kind, strict=True)
        except msgspec.ValidationError as fault:
            # msgspec says "... - at `$.shape[1]`"; separate the words from the location.
            words, _, place = str(fault).partition(" - at `$")
            self.add("field", _join(where, place.rstrip("`").lstrip(".")), words[0].lower() + words[1:])
            return None

    def known(self, word: str, allowed: tuple[str, ...], place: str, what: str) -> None:
        """Add a problem unless the word is one of those allowed."""
        if word not in allowed:
            self.add("id", place, f"unknown {what} {word!r}; it should be one of {', '.join(allowed)}")

    def hexadecimal(self, text: str, pattern: re.Pattern[str], place: str) -> None:
        """Add a problem unless the text is HEX16 or HEX64."""
        if not pattern.fullmatch(text):
            digits = 16 if pattern is HEX16 else 64
            self.add("field", place, f"should be {digits} lower-case hexadecimal digits")


def without_extensions(value: Any) -> Any:
    """Return an object without its fields named ``x-...``, and any other value unchanged."""
    return {key: item for key, item in value.items() if not key.startswith("x-")} if isinstance(value, dict) else value


def _join(where: str, place: str) -> str:
    if not place:
        return where
    return f"{where}{place}" if place.startswith("[") else f"{where}.{place}"


def quote(name: str) -> str:
    """Return a name as JSON writes it, shortened to 100 characters."""
    return encode_basestring(name if len(name) <= 100 else f"{name[:97]}...")


def kind_of(value: Any) -> str:
    """Return the JSON kind of a value."""
    names: dict[type, str] = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    names |= {int: "an integer", float: "a float"}
    return names.get(type(value), "null")
