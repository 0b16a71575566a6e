"""Show that a text is canonical by writing again what was decoded from it: faster than reading it by patterns.

msgspec writes strings and the order of keys as the canonical form has them, but not some floats, such as 1e16, and it
reads integers that are out of range: callers check numbers by is_canonical().
"""

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

import msgspec

from lottapack.strict_json.check import INTEGERS

_encoder = msgspec.json.Encoder(order="sorted")
_PIECE: Final = 1024
"""The members that are written at a time, so that the text does not take its size once more."""


def behind_object(data: bytes, begin: int, members: Mapping[str, Any]) -> int:
    """Return the offset after an object whose canonical text begins at ``begin``, or -1 if another text is there.

    ``members``: what was decoded from it, in the order of the text.
    """
    if not members:
        return begin + 2 if data.startswith(b"{}", begin) else -1
    at, last, rest = begin, "", iter(members.items())
    while piece := dict(islice(rest, _PIECE)):
        text = _encoder.encode(piece)
        first = next(iter(piece))
        if (at > begin and not last < first) or not data.startswith(text[1:-1], at + 1):
            return -1
        if data[at] != ord("," if at > begin else "{"):
            return -1
        at += len(text) - 1
        last = next(reversed(piece))
    return at + 1 if data.startswith(b"}", at) else -1


def is_canonical(value: float) -> bool:
    """Return whether a number is in range, and msgspec writes it as canonical JSON does."""
    if isinstance(value, int):
        return value in INTEGERS
    return _encoder.encode(value) == repr(value).encode()
