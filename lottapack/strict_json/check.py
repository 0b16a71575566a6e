"""Whether a text is canonical JSON, in one pass that builds nothing (spec: container, section 4; refusals, section 6).

A stranger's text is looked through before any value of it is made: Python's values are up to forty times as large as
the shortest texts for them. The text as a whole must be right, and then its parts can be read when they are needed.
"""

import codecs
import json
from typing import NoReturn

from lottapack.strict_json.patterns import ANY_STRING, ITEMS, MEMBER, NUMBER, SPACE, STRING, WORD

MAX_DEPTH = 64
MAX_KEY = 8192
"""Bytes of a key as it is written, between its quotes."""
_MOST_DIGITS = 20  # of -2**63 and 2**64 - 1
_INTEGERS = range(-(2**63), 2**64)
_PIECE = 1 << 16

_OPEN = {ord("{"): ord("}"), ord("["): ord("]")}
_OBJECT, _COMMA = ord("}"), ord(",")


class JsonFaultError(ValueError):
    """What is wrong with a text. ``kind``: ``json``, ``duplicate`` or ``canonical``."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def check(data: bytes, end: int | None = None) -> None:
    """Raise JsonFaultError unless ``data``, up to ``end``, is the canonical JSON of one value.

    What is no JSON, or a key that follows itself, is said before what is only not canonical.
    """
    _Pass(data, len(data) if end is None else end).run()


def characters(text: bytes) -> str:
    """What the characters of a string, between its quotes, stand for."""
    return str(json.loads(b'"%b"' % text)) if b"\\" in text else text.decode()


def _is_shortest(text: bytes) -> bool:
    return repr(float(text)).encode() == text


class _Pass:
    """One pass over a text. Of each container that is open, its closing bracket and its last key are kept."""

    def __init__(self, data: bytes, end: int) -> None:
        self.data, self.end = data, end
        self.open: list[int] = []
        self.keys: list[bytes | None] = []
        self.loose = ""  # how the text first differs from the canonical form

    def run(self) -> None:
        self.check_utf8()
        at = self.value(0)
        while self.open:
            at = self.members(at) if self.open[-1] == _OBJECT else self.items(at)
        if self.space(at) != self.end:
            self.refuse(at, "there is more after the value")
        if self.loose:
            raise JsonFaultError("canonical", f"is not canonical JSON: {self.loose}")

    def refuse(self, at: int, what: str) -> NoReturn:
        raise JsonFaultError("json", f"is not JSON in UTF-8 within the format's limits ({what}, at byte {at:,})")

    def differ(self, at: int, what: str) -> None:
        if not self.loose:
            found = bytes(self.data[at : min(at + 16, self.end)])
            self.loose = f"at byte {at:,}, {found!r}: {what} (keys sorted, no spaces, shortest numbers)"

    def check_utf8(self) -> None:
        if self.data.isascii():
            return
        decoder = codecs.getincrementaldecoder("utf-8")()
        for begin in range(0, self.end, _PIECE):
            piece = self.data[begin : min(begin + _PIECE, self.end)]
            try:
                decoder.decode(piece, final=begin + _PIECE >= self.end)
            except UnicodeDecodeError as fault:
                self.refuse(begin, fault.reason)

    def space(self, at: int) -> int:
        """The place behind white space."""
        found = SPACE.match(self.data, at, self.end)
        behind = found.end() if found else at
        if behind != at:
            self.differ(at, "white space")
        return behind

    def members(self, at: int) -> int:
        """From where a key is due in the innermost object, up to where a container opens or this one closes."""
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
        """A member that is not canonical, or no member at all."""
        key, behind = self.string(at, "a key is due")
        self.compare(self.keys[-1], key, at)
        self.keys[-1] = key
        at = self.space(behind)
        if self.byte(at) != ord(":"):
            self.refuse(at, "a colon is due")
        return self.value(self.space(at + 1))

    def items(self, at: int) -> int:
        """From where an item is due in the innermost array, up to where a container opens or this one closes."""
        found = ITEMS.match(self.data, at, self.end)
        if found is None:
            return self.value(self.space(at))
        if found["behind"]:
            return self.close(found.end())
        return self.enter(found.end() - 1) if found["open"] else self.value(self.space(found.end()))

    def byte(self, at: int) -> int:
        return self.data[at] if at < self.end else -1

    def value(self, at: int) -> int:
        """Read any one value, up to where the next one or a key is due."""
        at = self.space(at)
        first = self.byte(at)
        if first in _OPEN:
            return self.enter(at)
        if first == ord('"'):
            return self.after(self.string(at, "")[1])
        found = WORD.match(self.data, at, self.end)
        return self.after(found.end() if found else self.number(at))

    def enter(self, at: int) -> int:
        """Open the container that begins here."""
        closing = _OPEN[self.data[at]]
        self.open.append(closing)
        self.keys.append(None)
        if len(self.open) > MAX_DEPTH:
            self.refuse(at, f"nested more than {MAX_DEPTH} deep")
        at = self.space(at + 1)
        return self.close(at + 1) if self.byte(at) == closing else at

    def close(self, at: int) -> int:
        """Close the innermost container, whose bracket ends here."""
        self.open.pop()
        self.keys.pop()
        return self.after(at)

    def after(self, at: int) -> int:
        """Behind a value: on to the next in the same container, or out of it."""
        while self.open:
            at = self.space(at)
            found = self.byte(at)
            if found == _COMMA:
                return self.space(at + 1)
            if found != self.open[-1]:
                self.refuse(at, f"a comma or {chr(self.open[-1])} is due")
            self.open.pop()
            self.keys.pop()
            at += 1
        return at

    def string(self, at: int, due: str) -> tuple[bytes, int]:
        """The characters between the quotes as they are written, and the place behind the string."""
        found = STRING.match(self.data, at, self.end)
        if found is None:
            found = ANY_STRING.match(self.data, at, self.end)
            if found is None:
                self.refuse(at, due if due and self.byte(at) != ord('"') else "a string that is not one")
            self.differ(at, "an escape that is not the one for its character")
        return found["chars"], found.end()

    def compare(self, last: bytes | None, key: bytes, at: int) -> None:
        """The length of a key, and the order of two, by code points, which is that of their UTF-8."""
        if len(key) > MAX_KEY:
            self.refuse(at, f"a key of more than {MAX_KEY:,} bytes")
        if last is None:
            return
        before, here = characters(last).encode(), characters(key).encode()
        if before == here:
            shown = here.decode() if len(here) <= 80 else f"{here[:77].decode(errors='ignore')}..."
            raise JsonFaultError("duplicate", f"the key {shown!r} stands twice in one object")
        if before > here:
            self.differ(at, "a key that should stand before the one before it")

    def number(self, at: int) -> int:
        found = NUMBER.match(self.data, at, self.end)
        if found is None:
            self.refuse(at, "no value here")
        text = found[0]
        if found["fraction"] is None and found["exponent"] is None:
            if len(text) > _MOST_DIGITS or int(text) not in _INTEGERS:
                self.refuse(at, "an integer is out of range")
            if text == b"-0":
                self.differ(at, "minus zero as an integer")
        else:
            value = float(text)
            if value in (float("inf"), float("-inf")):
                self.refuse(at, "a float is out of range")
            if repr(value).encode() != text:
                self.differ(at, f"this number should be {value!r}")
        return found.end()
