"""Canonical JSON: one text for one value (spec: container, section 4).

Python's own ``json`` writes this form, given sorted keys and no spaces.
"""

import json
from typing import Any

from lottapack.errors import FormatError, Problem
from lottapack.strict_json.check import JsonFaultError, check
from lottapack.strict_json.text import JsonText


def dumps(value: Any) -> bytes:
    """Write ``value`` as canonical JSON. Raises ValueError where it has no such form (NaN, lone surrogates)."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8")


def view(
    data: bytes,
    *,
    end: int | None = None,
    source: str = "JSON",
    where: str = "json",
    error: type[FormatError] = FormatError,
    hint: str = "",
) -> JsonText:
    """The value of canonical JSON, all of it checked and none of it made. ``end``: where it ends in ``data``.

    Anything else raises ``error`` with one problem at ``where``.
    """
    try:
        check(data, end)
    except JsonFaultError as fault:
        raise error(source, [Problem(fault.kind, where, str(fault))], hint=hint) from None
    return JsonText(data, 0, end)


def loads(data: bytes, *, source: str = "JSON", where: str = "json") -> Any:
    """Read canonical JSON into Python's values; anything else raises FormatError with one problem at ``where``."""
    return view(data, source=source, where=where).value()
