"""Canonical JSON: exactly one text for each value (spec: container, section 4).

Python's ``json`` writes this form if keys are sorted and spaces left out.
"""

import json
from typing import Any

from lottapack.errors import FormatError, Problem
from lottapack.strict_json.check import JsonFaultError, check
from lottapack.strict_json.text import JsonText


def dumps(value: Any) -> bytes:
    """Write ``value`` as canonical JSON. Raises ValueError for values without such a form (NaN, lone surrogates)."""
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
    """Check all of a canonical JSON text and return a view of its value, without building it.

    ``end``: where the text ends in ``data``. Any other text raises ``error`` with one problem at ``where``.
    """
    try:
        check(data, end)
    except JsonFaultError as fault:
        raise error(source, [Problem(fault.kind, where, str(fault))], hint=hint) from None
    return JsonText(data, 0, end)


def loads(data: bytes, *, source: str = "JSON", where: str = "json") -> Any:
    """Read canonical JSON into Python values; any other text raises FormatError with one problem at ``where``."""
    return view(data, source=source, where=where).value()
