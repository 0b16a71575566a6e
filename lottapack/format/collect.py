"""Collecting everything that is wrong with a descriptor, each with its place."""

import re
from typing import Any, TypeVar

import msgspec

from lottapack.errors import Problem
from lottapack.format import canonical

_T = TypeVar("_T")
MOST = 1000
"""Problems that are noted of one file."""
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

    def record(self, value: Any, kind: type[_T], where: str) -> _T | None:
        """Convert an object to a record; fields named ``x-...`` are dropped (spec: descriptor, section 2)."""
        if not isinstance(value, dict):
            self.add("field", where, f"should be an object, not {kind_of(value)}")
            return None
        known = {key: item for key, item in value.items() if not key.startswith("x-")}
        try:
            return msgspec.convert(known, kind, strict=True)
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


def _join(where: str, place: str) -> str:
    if not place:
        return where
    return f"{where}{place}" if place.startswith("[") else f"{where}.{place}"


def quote(name: str) -> str:
    """A name as JSON writes it, shortened."""
    return canonical.dumps(name if len(name) <= 100 else f"{name[:97]}...").decode()


def kind_of(value: Any) -> str:
    """What JSON calls a value."""
    names: dict[type, str] = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    names |= {int: "an integer", float: "a float"}
    return names.get(type(value), "null")
