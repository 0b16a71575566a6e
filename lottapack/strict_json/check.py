"""Check in one pass that a text is canonical JSON, without building values (container, section 4; refusals, section 6).

An untrusted text is checked completely before any value is built, because Python's values can take forty times the
memory of the shortest texts for them. After that check, parts of it can be read on demand.
"""

import codecs
import json
from typing import NoReturn

from lottapack.strict_json.patterns import ANY_STRING, ITEMS, MEMBER, NUMBER, SPACE, STRING, WORD

MAX_DEPTH = 64
MAX_KEY = 8192
"""The most bytes of a key as it is written, between its quotes."""
_MOST_DIGITS = 17  # of the least integer, with its sign
INTEGERS = range(-(2**53) + 1, 2**53)
_PIECE = 1 << 16

_OPEN = {ord("{"): ord("}"), ord("["): ord("]")}
_OBJECT, _COMMA = ord("}"), ord(",")


class JsonFaultError(ValueError):
    """The fault of a text. ``kind``: ``json`` or ``canonical``."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def check(data: bytes, end: int | None = None, *, within: int = 0) -> None:
    """Raise JsonFaultError unless ``data``, up to ``end``, is the canonical JSON of one value.

    ``within``: the number of containers that the value lies in. Invalid JSON is reported before text that is only not
    canonical.
    """
    _Pass(data, len(data) if end is None else end, MAX_DEPTH - within).run()


def utf8_fault(data: bytes, end: int) -> tuple[int, str] | None:
    """Return about where a text, up to ``end``, is not UTF-8, and why; None for UTF-8."""
    if data.isascii():
        return None
    decoder = codecs.getincrementaldecoder("utf-8")()
    for begin in range(0, end, _PIECE):
        piece = data[begin : min(begin + _PIECE, end)]
        try:
            decoder.decode(piece, final=begin + _PIECE >= end)
        except UnicodeDecodeError as fault:
            return begin, fault.reason
    return None


def characters(text: bytes) -> str:
    """Return the text of a string from its characters between the quotes."""
    return str(json.loads(b'"%b"' % text)) if b"\\" in text else text.decode()


def _is_shortest(text: bytes) -> bool:
    return repr(float(text)).encode() == text


class _Pass:
    """One pass over a text. It remembers the closing bracket and the last key of each open container."""

    def __init__(self, data: bytes, end: int, deepest: int) -> None:
        self.data, self.end, self.deepest = data, end, deepest
        self.open: list[int] = []
        self.keys: list[bytes | None] = []
        self.loose = ""  # the first difference from the canonical form

    def run(self) -> None:
        fault = utf8_fault(self.data, self.end)
        if fault is not None:
            self.refuse(*fault)
        at = self.value(0)
        while self.open:
            at = self.members(at) if self.open[-1] == _OBJECT else self.items(at)
        if self.space(at) != self.end:
            self.refuse(at, "more text follows the value")
        if self.loose:
            raise JsonFaultError("canonical", f"is not canonical JSON: {self.loose}")

    def refuse(self, at: int, what: str) -> NoReturn:
        raise JsonFaultError("json", f"is not JSON in UTF-8 within the format's limits ({what}, at byte {at:,})")

    def differ(self, at: int, what: str) -> None:
        if not self.loose:
            shown = bytes(self.data[at : min(at + 16, self.end)])
            self.loose = f"at byte {at:,}, {shown!r}: {what} (keys sorted, no spaces, shortest numbers)"

    def space(self, at: int) -> int:
        """Return the offset after white space."""
        found = SPACE.match(self.data, at, self.end)
        behind = found.end() if found else at
        if behind != at:
            self.differ(at, "white space")
        return behind

    def members(self, at: int) -> int:
        """Read members from a key of the innermost object on, until a container opens or this object closes."""
        data, end, match = self.data, self.end, MEMBER.match
        last = self.keys[-1]
        while found := match(data, at, end):
            key, alpha, scale, behind, opened = found.groups()
            if last is None or not last < key or b"\\" in key or b"\\" in last or len(key) > MAX_KEY:
                self.compare(last, key, at)
            last = key
            if (scale and not _is_shortest(scale)) or (alpha and not _is_shortest(alpha)):
                behind = opened = None
                value = at + len(key) + 3
            else:
                value = at = found.end()
            if behind == b",":
                continue
            self.keys[-1] = last
            if behind:
                return self.close(at)
            return self.enter(at - 1) if opened else self.value(value)
        self.keys[-1] = last
        return self.lax_member(self.space(at))

    def lax_member(self, at: int) -> int:
        """Read a member that is not canonical, or refuse it."""
        key, behind = self.string(at, "expected a key")
        self.compare(self.keys[-1], key, at)
        self.keys[-1] = key
        at = self.space(behind)
        if self.byte(at) != ord(":"):
            self.refuse(at, "expected a colon")
        return self.value(self.space(at + 1))

    def items(self, at: int) -> int:
        """Read items of the innermost array, until a container opens or this array closes."""
        found = ITEMS.match(self.data, at, self.end)
        if found is None:
            return self.value(self.space(at))
        if found["behind"]:
            return self.close(found.end())
        return self.enter(found.end() - 1) if found["open"] else self.value(self.space(found.end()))

    def byte(self, at: int) -> int:
        return self.data[at] if at < self.end else -1

    def value(self, at: int) -> int:
        """Read one value of any kind, and return the offset of the next value or key."""
        at = self.space(at)
        first = self.byte(at)
        if first in _OPEN:
            return self.enter(at)
        if first == ord('"'):
            return self.after(self.string(at, "")[1])
        found = WORD.match(self.data, at, self.end)
        return self.after(found.end() if found else self.number(at))

    def enter(self, at: int) -> int:
        """Open the container that begins at ``at``."""
        closing = _OPEN[self.data[at]]
        self.open.append(closing)
        self.keys.append(None)
        if len(self.open) > self.deepest:
            self.refuse(at, f"nested more than {MAX_DEPTH} levels deep")
        at = self.space(at + 1)
        return self.close(at + 1) if self.byte(at) == closing else at

    def close(self, at: int) -> int:
        """Close the innermost container, whose bracket ends at ``at``."""
        self.open.pop()
        self.keys.pop()
        return self.after(at)

    def after(self, at: int) -> int:
        """Continue after a value: return the offset of the next one in the same container or in an outer one."""
        while self.open:
            at = self.space(at)
            found = self.byte(at)
            if found == _COMMA:
                return self.space(at + 1)
            if found != self.open[-1]:
                self.refuse(at, f"expected a comma or {chr(self.open[-1])}")
            self.open.pop()
            self.keys.pop()
            at += 1
        return at

    def string(self, at: int, due: str) -> tuple[bytes, int]:
        """Return a string's characters as written between the quotes, and the offset after the string."""
        found = STRING.match(self.data, at, self.end)
        if found is None:
            found = ANY_STRING.match(self.data, at, self.end)
            if found is None:
                self.refuse(at, due if due and self.byte(at) != ord('"') else "an invalid string")
            self.differ(at, "an escape that is not the canonical one for its character")
        return found["chars"], found.end()

    def compare(self, last: bytes | None, key: bytes, at: int) -> None:
        """Check a key's length, and that it follows the last one by code points, which is the order of UTF-8 too."""
        if len(key) > MAX_KEY:
            self.refuse(at, f"a key of more than {MAX_KEY:,} bytes")
        if last is None:
            return
        before, here = characters(last).encode(), characters(key).encode()
        if before >= here:
            what = "a key that stands there twice" if before == here else "a key that should precede the one before it"
            self.differ(at, what)

    def number(self, at: int) -> int:
        found = NUMBER.match(self.data, at, self.end)
        if found is None:
            self.refuse(at, "expected a value")
        text = found[0]
        if found["fraction"] is None and found["exponent"] is None:
            if len(text) > _MOST_DIGITS or int(text) not in INTEGERS:
                self.refuse(at, "an integer is out of range")
            if text == b"-0":
                self.differ(at, "minus zero written as an integer")
        else:
            value = float(text)
            if value in (float("inf"), float("-inf")):
                self.refuse(at, "a float is out of range")
            if repr(value).encode() != text:
                self.differ(at, f"this number should be {value!r}")
        return found.end()
