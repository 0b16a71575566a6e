"""Faulty packs from sound ones: change one value of the header or the descriptor, and make the rest right again.

A random byte nearly always ends at the first check, of canonical JSON or of a digest. These mutations reach the checks
behind them. Independent of lottapack, and of any fuzzer.
"""

import hashlib
import json
import random
from typing import Any

SCALARS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 8, 9, 64, 2**31, 2**32, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1,
    0.0, -0.0, 1.0, 0.5, 1e-45, 1e-38, 5e-324, 3.4e38, 1e39, 1.7976931348623157e308,
    "", "a", "0" * 16, "f" * 16, "0" * 64, "\0", "../a", "a.b", "ä", "a\u0308", "\ufeff", "𝄞", "x-a",
    "slice", "seeded", "adapted", "stored", "constant", "tied", "float32", "bfloat16", "float16", "float64", "int64",
    "bool", "F32", "BF16", "I64", "BOOL", "U8", "F8_E4M3", "normal16", "uniform16", "sign1", "own", "constructor",
    "lora", "rslora", "philox4x32-10", "torch-cpu", "torch.nn", "transformers", "1.0", "1.1", "2.0",
)  # fmt: skip
"""Values at the edges of what the format allows, and its own words."""

KEYS = (
    "role", "shape", "dtype", "scale", "rank", "alpha", "to", "value", "sha256", "adapter", "beta", "magnitude", "bits",
    "lora_A", "lora_B", "lambda_b", "lambda_d", "scale_in", "scale_out", "coding", "of", "codes",
    "tables", "seed", "torch", "capability", "config", "children", "class", "x-note", "__metadata__",
    "0.bias", "auto_map", "_attn_implementation", "trust_remote_code", "lottapack.tables.own", "",
)  # fmt: skip
_MOST = 200_000
"""Bytes of the largest file made."""


def dump(value: Any) -> bytes:
    """Canonical JSON, where there is such a form."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8", "surrogatepass")


def take_apart(pack: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes] | None:
    """Header, descriptor and data of what looks like a pack; None for anything else."""
    length = int.from_bytes(pack[:8], "little")
    if not 8 <= length <= len(pack) - 8:
        return None
    try:
        header = json.loads(pack[8 : 8 + length])
        descriptor = json.loads(header["__metadata__"]["lottapack"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(descriptor, dict):
        return None
    return header, descriptor, pack[8 + length :]


def put_together(header: Any, descriptor: Any, data: bytes) -> bytes:
    """A file whose length, padding, canonical form and digest are right, whatever it says."""
    text = dump(descriptor)
    if isinstance(header, dict) and isinstance(header.get("__metadata__"), dict):
        digest = hashlib.sha256(text).hexdigest()
        header["__metadata__"] |= {"lottapack": text.decode("utf-8", "surrogatepass"), "lottapack.sha256": digest}
    made = dump(header)
    made += b" " * (-len(made) % 8)
    return len(made).to_bytes(8, "little") + made + data


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    found, pending = [], [value]
    while pending:
        inner = pending.pop()
        items = inner.items() if isinstance(inner, dict) else enumerate(inner) if isinstance(inner, list) else ()
        for key, item in items:
            found.append((inner, key))
            pending.append(item)
    return found


def change(value: Any, draw: random.Random) -> None:
    """One change somewhere in a JSON value: a value, a key, one more, one less, one twice as deep."""
    known = places(value)
    if not known:
        return
    container, key = draw.choice(known)
    kind = draw.randrange(8)
    if kind < 3:
        container[key] = draw.choice(SCALARS)
    elif kind == 3:
        other, at = draw.choice(known)
        container[key] = json.loads(json.dumps(other[at]))
    elif kind == 4 and isinstance(container, dict):
        container[draw.choice(KEYS)] = container.pop(key)
    elif kind == 5:
        if isinstance(container, dict):
            container[draw.choice(KEYS)] = draw.choice(SCALARS)
        else:
            container.insert(key, draw.choice(SCALARS))
    elif kind == 6:
        del container[key]
    else:
        item = container[key]
        container[key] = _nudged(item, draw)


def _nudged(item: Any, draw: random.Random) -> Any:
    if isinstance(item, bool):
        return not item
    if isinstance(item, int):
        return item + draw.choice((-8, -4, -1, 1, 4, 8))
    if isinstance(item, float):
        return item * draw.choice((-1.0, 0.5, 2.0, 2.0**-64, 2.0**64))
    if isinstance(item, str) and item:
        place = draw.randrange(len(item))
        return item[:place] + draw.choice("0aZ.\\/\u0308") + item[place + draw.randrange(2) :]
    return [item] * draw.choice((2, 70)) if draw.randrange(4) else {"a": item}


def mutated(pack: bytes, seed: int) -> bytes | None:
    """A file like ``pack`` with one to three changes, or None where there is nothing to change."""
    draw = random.Random(seed)
    parts = take_apart(pack)
    if parts is None:
        return None
    header, descriptor, data = parts
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        which = draw.randrange(8)
        if which < 5:
            change(descriptor, draw)
        elif which < 7:
            change(header, draw)
        elif data:
            place = draw.randrange(len(data))
            data = data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :]
    try:
        made = put_together(header, descriptor, data)
    except (ValueError, TypeError, RecursionError):
        return None
    return made if len(made) <= _MOST else None
