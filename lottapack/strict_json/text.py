"""Views of values in text known to be canonical JSON; a Python value is only built on demand.

So an untrusted text takes its own bytes and those of the values that are used, not a second copy of everything
(decision 0026).
"""

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from lottapack.strict_json.check import characters
from lottapack.strict_json.patterns import (
    KNOWN_BRACKETS,
    KNOWN_CHARS,
    KNOWN_INTEGERS,
    KNOWN_KEY,
    KNOWN_MEMBER,
    KNOWN_VALUE,
    STRING,
)

_CLOSED = ord("]")
_SPECIAL = bytes(range(32)) + b"\\"
_decoder = json.JSONDecoder()
_KINDS = {b"{": "an object", b"[": "an array", b'"': "a string", b"t": "a boolean", b"f": "a boolean", b"n": "null"}


class JsonText:
    """One value of a canonical text, given by its first and last offset."""

    __slots__ = ("begin", "data", "end")

    def __init__(self, data: bytes, begin: int = 0, end: int | None = None) -> None:
        self.data, self.begin, self.end = data, begin, len(data) if end is None else end

    def __len__(self) -> int:
        """Return the bytes of the value's text."""
        return self.end - self.begin

    @property
    def kind(self) -> str:
        """The JSON kind of the value, such as "an object"."""
        known = _KINDS.get(self.data[self.begin : self.begin + 1])
        if known is not None:
            return known
        return "a float" if any(sign in self.text() for sign in b".en") else "an integer"

    @property
    def is_object(self) -> bool:
        """Whether the value is an object."""
        return self.data.startswith(b"{", self.begin)

    @property
    def is_array(self) -> bool:
        """Whether the value is an array."""
        return self.data.startswith(b"[", self.begin)

    @property
    def is_integers(self) -> bool:
        """Whether the value is an array that only has integers."""
        return KNOWN_INTEGERS.fullmatch(self.data, self.begin, self.end) is not None

    @property
    def is_string(self) -> bool:
        """Whether the value is a string."""
        return self.data.startswith(b'"', self.begin)

    def text(self) -> bytes:
        """Return the value's text."""
        return self.data[self.begin : self.end]

    def value(self) -> Any:
        """Return the value as ``json`` decodes it."""
        return _decoder.raw_decode(self.text().decode())[0]

    def members(self) -> Iterator[tuple[str, "JsonText"]]:
        """Yield the keys of an object in order, each with its value."""
        data, at = self.data, self.begin + 1
        while at < self.end - 1:
            match = KNOWN_MEMBER.match(data, at, self.end)
            assert match is not None, "the text is not canonical"
            begin, end = match.span(2)
            if end < 0:
                begin = match.end()
                end = _closed(data, begin)
            yield characters(match[1]), JsonText(data, begin, end)
            at = end + 1

    def items(self) -> Iterator["JsonText"]:
        """Yield the items of an array."""
        data, at = self.data, self.begin + 1
        while at < self.end - 1:
            match = KNOWN_VALUE.match(data, at, self.end)
            end = match.end() if match else _closed(data, at)
            yield JsonText(data, at, end)
            at = end + 1

    def every_key(self) -> Iterator[tuple[str, list[str | int]]]:
        """Yield every key at any depth with the keys and indices that lead to its object; "" for each item of an array.

        The yielded list is reused and changes afterwards.
        """
        data, at, way = self.data, self.begin, list[str | int]()
        while at < self.end:
            found = KNOWN_KEY.match(data, at, self.end)
            if found is None:  # a scalar
                return
            at = found.end()
            mark = found[2]
            if mark is None:
                way.pop()
                key = characters(found[1])
                yield key, way
                way.append(key)
            elif mark == b"{":
                way.append("")
            elif mark == b"[":
                way.append(0)
                if data[at] != _CLOSED:
                    yield "", way
            elif mark == b",":
                last = way[-1]
                if isinstance(last, int):
                    way[-1] = last + 1
                    yield "", way
            else:
                way.pop()

    def member(self, name: str) -> "JsonText | None":
        """Return one member of an object, or None."""
        return next((value for key, value in self.members() if key == name), None)

    def string_bytes(self) -> bytes:
        """Return the UTF-8 of a string: at once if quotes are its only escapes, else decoded in pieces."""
        at, end = self.begin + 1, self.end - 1
        plain = _plain(self.data[at:end])
        if plain is not None:
            return plain
        made = BytesIO()
        while at < end:
            found = KNOWN_CHARS.match(self.data, at, end)
            assert found is not None, "the text is not canonical"
            made.write(characters(found[0]).encode())
            at = found.end()
        return made.getvalue()


def string_bytes(data: bytes, begin: int, end: int) -> bytes | None:
    """Return the UTF-8 of a string between its quotes, or None if it is not canonical."""
    plain = _plain(data[begin:end])
    if plain is None and STRING.fullmatch(data, begin - 1, end + 1):
        return JsonText(data, begin - 1, end + 1).string_bytes()
    return plain


def _plain(chars: bytes) -> bytes | None:
    """Return the text of a canonical string from what is between its quotes, if quotes are its only escapes, or None.

    Also None for control characters and quotes that are not escaped, which no string has.
    """
    plain = chars.translate(None, _SPECIAL)
    escaped = chars.count(b'\\"')
    return plain if len(chars) - len(plain) == escaped == chars.count(b'"') else None


def _closed(data: bytes, begin: int) -> int:
    """Return the offset after a container that is nested too deep for one pattern."""
    depth, at = 0, begin
    while found := KNOWN_BRACKETS.match(data, at):
        at = found.end()
        if found["open"]:
            depth += len(found["open"])
        elif depth > len(found["close"]):
            depth -= len(found["close"])
        else:
            return found.start("close") + depth
    raise AssertionError("the text is not canonical")
