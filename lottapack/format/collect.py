"""Collect everything that is wrong with a descriptor, each problem with its location."""

import re
from itertools import islice
from json.encoder import encode_basestring
from typing import Any, TypeVar

import msgspec

from lottapack.errors import Problem
from lottapack.format.form import form_fault, integer_for_float, kind_of
from lottapack.strict_json.text import JsonText

__all__ = ["HEX16", "HEX64", "MOST", "Collector", "kind_of", "quote", "spared", "without_extensions"]

_T = TypeVar("_T")
MOST = 1000
"""The most problems that are collected for one file."""
_LONG = 32_768
"""Bytes of a text whose value is built as a whole. Real entries have a few hundred."""
_MOST_FIELDS = 32  # no record has as many fields, so an object with more has unknown ones
_MOST_ITEMS = 32  # no shape has as many dimensions
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
        value: dict[str, Any] = spared(text)
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
            if name in large and item.is_object:
                fields[name] = {}
            elif len(fields) < _MOST_FIELDS:
                fields[name] = spared(item)
        return fields

    def record(self, fields: dict[str, Any], kind: type[_T], where: str) -> _T | None:
        """Convert the fields of an object to a record, or add its first fault of form."""
        try:
            if not integer_for_float(fields):
                return msgspec.convert(fields, kind, strict=True)
        except msgspec.ValidationError:
            pass
        place, message = form_fault(fields, kind)
        self.add("field", f"{where}{place}", message)
        return None

    def known(self, word: str, allowed: tuple[str, ...], place: str, what: str) -> None:
        """Add a problem unless the word is one of those allowed."""
        if word not in allowed:
            self.add("id", place, f"unknown {what} {word[:100]!r}; it should be one of {', '.join(allowed)}")

    def hexadecimal(self, text: str, pattern: re.Pattern[str], place: str) -> None:
        """Add a problem unless the text is HEX16 or HEX64."""
        if not pattern.fullmatch(text):
            digits = 16 if pattern is HEX16 else 64
            self.add("field", place, f"should be {digits} lower-case hexadecimal digits")


def without_extensions(value: Any) -> Any:
    """Return an object without its fields named ``x-...``, and any other value unchanged."""
    return {key: item for key, item in value.items() if not key.startswith("x-")} if isinstance(value, dict) else value


def spared(text: JsonText) -> Any:
    """Return the value of a text, and of a long one only what decides whether it is valid.

    No valid string of a record is long, and no valid array of integers; fields named ``x-...`` are ignored.
    """
    if len(text) <= _LONG:
        return text.value()
    if text.is_object:
        fields = ((name, item) for name, item in text.members() if not name.startswith("x-"))
        return {name: spared(item) for name, item in islice(fields, _MOST_FIELDS)}
    if text.is_array:
        items = text.items() if text.is_integers else (item for item in text.items() if item.kind != "an integer")
        return [spared(item) for item in islice(items, _MOST_ITEMS)]
    return text.data[text.begin + 1 : text.begin + _LONG].decode(errors="ignore")


def quote(name: str) -> str:
    """Return a name as JSON writes it, shortened to 100 characters."""
    return encode_basestring(name if len(name) <= 100 else f"{name[:97]}...")
