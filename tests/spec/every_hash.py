"""Change each hash and each part of the data of a pack, one at a time, and fix the descriptor's digest."""

import copy
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spec_files import split

HASH = re.compile("[0-9a-f]{16}|[0-9a-f]{64}")


def changes(pack: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield what was changed, ``fingerprint``, ``sha256`` or ``data``; where; and the file."""
    header, data = split(pack)
    metadata = header["__metadata__"]
    descriptor = json.loads(metadata["lottapack"])
    for place in hashes(descriptor):
        changed = copy.deepcopy(descriptor)
        spot = changed
        for key in place[:-1]:
            spot = spot[key]
        spot[place[-1]] = f"{spot[place[-1]][:-1]}{int(spot[place[-1]][-1], 16) ^ 1:x}"
        text = canonical(changed)
        metadata["lottapack"], metadata["lottapack.sha256"] = text.decode(), hashlib.sha256(text).hexdigest()
        what = "sha256" if len(spot[place[-1]]) == 64 else "fingerprint"
        yield what, ".".join(place), written(header, data)
        metadata["lottapack"] = canonical(descriptor).decode()
        metadata["lottapack.sha256"] = hashlib.sha256(canonical(descriptor)).hexdigest()
    for name in sorted(header.keys() - {"__metadata__"}):
        begin, end = header[name]["data_offsets"]
        for offset in sorted({begin, (begin + end) // 2, end - 1} if end > begin else set()):
            changed_data = bytearray(data)
            changed_data[offset] ^= 1
            yield "data", f"{name}[{offset - begin}]", written(header, bytes(changed_data))


def hashes(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Return the places of every hash and fingerprint of a descriptor."""
    for key, item in value.items():
        if isinstance(item, dict) and place[:1] != ("architecture",) and key not in ("architecture", "provenance"):
            yield from hashes(item, (*place, key))
        elif isinstance(item, str) and HASH.fullmatch(item) and key not in ("seed", "value"):
            yield (*place, key)


def canonical(value: Any) -> bytes:
    """Canonical JSON."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def written(header: dict[str, Any], data: bytes) -> bytes:
    """The file."""
    text = canonical(header)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data
