"""Canonical JSON: one text for one value (spec: container, section 4).

Python's own ``json`` writes this form, given sorted keys and no spaces; reading compares with what would be written.
"""

import json
import unicodedata
from typing import Any, NoReturn

from lottapack.errors import FormatError, Problem

MAX_DEPTH = 64
_INT_RANGE = range(-(2**63), 2**64)


class _DuplicateKeyError(ValueError):
    pass


def dumps(value: Any) -> bytes:
    """Write ``value`` as canonical JSON. Raises ValueError where it has no such form (NaN, lone surrogates)."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8")


def loads(
    data: bytes, *, source: str = "JSON", where: str = "json", error: type[FormatError] = FormatError, hint: str = ""
) -> Any:
    """Read canonical JSON; anything else raises ``error`` with one problem at ``where``."""

    def refuse(kind: str, message: str) -> NoReturn:
        raise error(source, [Problem(kind, where, message)], hint=hint)

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
        _check_numbers_and_depth(value)
        written = dumps(value)
    except _DuplicateKeyError as fault:
        refuse("duplicate", str(fault))
    except (ValueError, RecursionError) as fault:
        refuse("json", f"is not JSON in UTF-8 within the format's limits ({_brief(fault)})")
    if written != data:
        refuse("canonical", f"is not canonical JSON: {_first_difference(data, written)}")
    return value


def name_fault(name: str, max_bytes: int = 1024) -> str | None:
    """Say what is wrong with a parameter's name, or None (spec: descriptor, section 3)."""
    if not name:
        return "the name is empty"
    if len(name.encode("utf-8", "surrogatepass")) > max_bytes:
        return f"the name is longer than {max_bytes} bytes"
    if any(unicodedata.category(character) in ("Cc", "Cs") or character in "/\\" for character in name):
        return "the name holds a control character, a slash or a backslash"
    if not unicodedata.is_normalized("NFC", name):
        return "the name is not in Unicode normalisation form C"
    return None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKeyError(f"the key {_shorten(key)!r} stands twice in one object")
            seen.add(key)
    return result


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _check_numbers_and_depth(value: Any) -> None:
    """Walk level by level, so that depth costs no recursion."""
    level, depth = [value], 0
    while level:
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
            elif type(item) is int and item not in _INT_RANGE:
                raise ValueError("an integer is out of range")
        if any(isinstance(item, dict | list) for item in level):
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"nested more than {MAX_DEPTH} deep")
        level = inner


def _brief(fault: Exception) -> str:
    return _shorten(" ".join(str(fault).split()) or type(fault).__name__, 120)


def _shorten(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _first_difference(data: bytes, written: bytes) -> str:
    place = next(
        (i for i, (a, b) in enumerate(zip(data, written, strict=False)) if a != b), min(len(data), len(written))
    )
    found, due = data[place : place + 16], written[place : place + 16]
    return f"at byte {place}, {found!r} should be {due!r} (keys sorted, no spaces, shortest numbers)"
