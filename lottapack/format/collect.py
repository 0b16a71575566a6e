"""Collecting everything that is wrong with a descriptor, each with its place."""

import re
from json.encoder import encode_basestring
from typing import Any, TypeVar

import msgspec

from lottapack.errors import Problem
from lottapack.strict_json.text import JsonText

_T = TypeVar("_T")
MOST = 1000
"""Problems that are noted of one file."""
MAX_ENTRY = 32_768
"""Bytes of the text of one entry: a tensor's, a parameter's, a table's (spec: container, section 1; descriptor, 1)."""
_MOST_FIELDS = 32  # of any object that has fields; one that has more has unknown ones
HEX16 = re.compile(r"[0-9a-f]{16}")
HEX64 = re.compile(r"[0-9a-f]{64}")


class Collector:
    """A list of problems, and the checks that add to it."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, kind: str, where: str, message: str) -> None:
        """Note a problem (kinds: spec, refusals); those beyond MOST only cost memory."""
        if len(self.problems) < MOST:
            self.problems.append(Problem(kind, where, message))

    def entry(self, text: JsonText, where: str) -> dict[str, Any] | None:
        """The fields of an entry, without those named ``x-...`` (spec: descriptor, section 2), or None."""
        if not text.is_object:
            self.add("field", where, f"should be an object, not {text.kind}")
            return None
        if len(text) > MAX_ENTRY:
            self.add("field", where, f"takes {len(text):,} bytes; the format allows an entry {MAX_ENTRY:,}")
            return None
        value: dict[str, Any] = text.value()
        return value if text.data.find(b'"x-', text.begin, text.end) < 0 else without_extensions(value)

    def fields(self, text: JsonText, where: str, large: tuple[str, ...] = ()) -> dict[str, Any] | None:
        """The fields of another object than an entry, without those named ``x-...``, or None.

        ``large``: those that may be large; where one is an object, an empty one stands for it.
        """
        if not text.is_object:
            self.add("field", where, f"should be an object, not {text.kind}")
            return None
        found: dict[str, Any] = {}
        for name, item in text.members():
            if name.startswith("x-"):
                continue
            if name in large and (item.is_object or len(item) > MAX_ENTRY):
                found[name] = {} if item.is_object else None
            elif len(item) > MAX_ENTRY:
                self.add("field", f"{where}.{name[:100]}", f"takes more than {MAX_ENTRY:,} bytes")
                return None
            elif len(found) < _MOST_FIELDS:
                found[name] = item.value()
        return found

    def record(self, fields: dict[str, Any], kind: type[_T], where: str) -> _T | None:
        """Convert the fields of an object to a record."""
        try:
            return msgspec.convert(fields, kind, strict=True)
        except msgspec.ValidationError as fault:
            # msgspec says "... - at `$.shape[1]`"; keep the words and the place apart.
            words, _, place = str(fault).partition(" - at `$")
            self.add("field", _join(where, place.rstrip("`").lstrip(".")), words[0].lower() + words[1:])
            return None

    def known(self, word: str, allowed: tuple[str, ...], place: str, what: str) -> None:
        """The word must be one of those allowed."""
        if word not in allowed:
            self.add("id", place, f"the {what} {word!r} is unknown here; known: {', '.join(allowed)}")

    def hexadecimal(self, text: str, pattern: re.Pattern[str], place: str) -> None:
        """The text must be HEX16 or HEX64."""
        if not pattern.fullmatch(text):
            digits = 16 if pattern is HEX16 else 64
            self.add("field", place, f"should be {digits} lower-case hexadecimal digits")


def without_extensions(value: Any) -> Any:
    """An object without its fields named ``x-...``; anything else as it is."""
    return {key: item for key, item in value.items() if not key.startswith("x-")} if isinstance(value, dict) else value


def _join(where: str, place: str) -> str:
    if not place:
        return where
    return f"{where}{place}" if place.startswith("[") else f"{where}.{place}"


def quote(name: str) -> str:
    """A name as JSON writes it, shortened."""
    return encode_basestring(name if len(name) <= 100 else f"{name[:97]}...")


def kind_of(value: Any) -> str:
    """What JSON calls a value."""
    names: dict[type, str] = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    names |= {int: "an integer", float: "a float"}
    return names.get(type(value), "null")
