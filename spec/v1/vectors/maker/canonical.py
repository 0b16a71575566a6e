"""Canonical JSON: container.md, section 4."""

from decimal import Decimal
from typing import Any

SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def text_of(value: Any) -> str:
    """The canonical text of ``None``, a bool, int, float, str, list or dict."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, str):
        return '"' + "".join(map(character, value)) + '"'
    if isinstance(value, list):
        return "[" + ",".join(map(text_of, value)) + "]"
    return "{" + ",".join(f"{text_of(key)}:{text_of(value[key])}" for key in sorted(value)) + "}"


def canonical(value: Any) -> bytes:
    """The canonical bytes."""
    return text_of(value).encode()


def character(c: str) -> str:
    """A character of a string, escaped where it must be."""
    return SHORT.get(c) or (f"\\u{ord(c):04x}" if c < " " else c)


def float_text(x: float) -> str:
    """The shortest digits that read back as ``x`` (``repr`` finds them), laid out by the rule of the page."""
    sign, figures, exponent = Decimal(repr(x)).as_tuple()
    assert isinstance(exponent, int), "a float must be finite"
    written = "".join(map(str, figures))
    digits = written.lstrip("0").rstrip("0") or "0"
    e = len(written.lstrip("0") or "0") + exponent  # x = 0.d1d2d3... * 10**e
    minus = "-" if sign else ""
    if x == 0:
        return minus + "0.0"
    if not -4 < e <= 16:
        point = "." if len(digits) > 1 else ""
        return f"{minus}{digits[0]}{point}{digits[1:]}e{'-' if e - 1 < 0 else '+'}{abs(e - 1):02d}"
    if e <= 0:
        return f"{minus}0.{'0' * -e}{digits}"
    return f"{minus}{digits[:e].ljust(e, '0')}.{digits[e:] or '0'}"
