"""Large files that cost a reader as much as possible for their size. Independent of lottapack."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

BYTES = 250_000
"""About the size of each; the cost grows with it."""


def container(text: bytes) -> bytes:
    """A file that is nothing but a header."""
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def descriptor(**fields: Any) -> bytes:
    """A pack without tensors, right but for what is given."""
    architecture = {"family": "torch.nn", "class": "ReLU", "config": {"inplace": False}}
    rng = {"id": "philox4x32-10", "seed": "0" * 16, "tables": {}}
    whole = {"lottapack": "1.0", "architecture": architecture, "rng": rng, "parameters": {}, "provenance": {}}
    text = dump({**whole, **fields})
    metadata = {"lottapack": text.decode(), "lottapack.sha256": hashlib.sha256(text).hexdigest()}
    return container(dump({"__metadata__": metadata}))


def numbered(count: int, value: Any) -> dict[str, Any]:
    return {f"{number:06d}": value for number in range(count)}


def files() -> Iterator[tuple[str, bytes]]:
    """Each with a name for it."""
    for item in ('[]', '{}', '0', '999', '"ab"', '1.5', 'null', '{"a":0}', '[0]', '"\u0142\u0142"'):  # fmt: skip
        data = item.encode()
        yield (
            f"a list of {item}",
            container(b'{"__metadata__":[' + b",".join([data] * (BYTES // (len(data) + 1))) + b"]}"),
        )
    yield "many keys", container(dump(numbered(BYTES // 11, 0)))
    entry = {"data_offsets": [0, 0], "dtype": "U8", "shape": []}
    yield "entries that are wrong", container(dump(numbered(BYTES // 55, entry)))
    yield "entries that are empty", container(dump(numbered(BYTES // 55, {**entry, "shape": [0]})))
    yield "parameters that are empty", descriptor(parameters=numbered(BYTES // 12, {}))
    yield "parameters that are numbers", descriptor(parameters=numbered(BYTES // 11, 0))
    yield "ties to nothing", descriptor(parameters=numbered(BYTES // 38, {"role": "tied", "to": "a"}))
    constant = {"role": "constant", "shape": [], "dtype": "float32", "value": "00000000"}
    yield "too many parameters", descriptor(parameters=numbered(100_001, {}))
    chain: dict[str, Any] = {f"{number:06d}": {"role": "tied", "to": f"{number + 1:06d}"} for number in range(20_000)}
    yield "a long circle", descriptor(parameters=chain | {"020000": {"role": "tied", "to": "000000"}})
    yield "a long chain", descriptor(parameters=chain | {"020000": constant})
    keys = [{"_": 0}] * (BYTES // 10)
    for name, config in (("lists", [[]] * (BYTES // 3)), ("private keys", keys), ("numbers", [0] * (BYTES // 2))):
        architecture = {"family": "transformers", "class": "GPT2Model", "config": {"a": config}}
        yield f"a configuration of {name}", descriptor(architecture=architecture)
    for family, name in (("timm", "resnet18"), ("python", "a:B")):
        for what, value in (("lists", [[]] * (BYTES // 3)), ("names", numbered(BYTES // 11, 0))):
            config = {"a": value}
            yield (
                f"{what} of {family}",
                descriptor(architecture={"family": family, "class": name, "config": config}),
            )
    nodes = {"children": [0] * (BYTES // 2)}
    yield "children", descriptor(architecture={"family": "torch.nn", "class": "Sequential", "config": nodes})
    many = {"children": [{"name": str(n), "class": "Tanh", "config": {}} for n in range(BYTES // 50)]}
    yield "modules", descriptor(architecture={"family": "torch.nn", "class": "Sequential", "config": many})
    yield "provenance", descriptor(provenance=numbered(BYTES // 11, 0))
    tables = {f"t{number:06d}": {"bits": 16, "sha256": "0" * 64} for number in range(BYTES // 100)}
    yield "tables", descriptor(rng={"id": "philox4x32-10", "seed": "0" * 16, "tables": tables})
    yield "what may be ignored", descriptor(**{"x-": [0] * (BYTES // 2)})
    yield "one name", descriptor(parameters={"n" * BYTES: constant})
    yield "one string", descriptor(provenance={"a": "\u0142" * (BYTES // 2)})
    yield "one number", container(b'{"__metadata__":' + b"9" * BYTES + b"}")
    yield "digits behind the point", container(b'{"__metadata__":0.' + b"9" * BYTES + b"}")
    yield "depth", container(b"[" * BYTES)
    yield "one string without an end", container(b'{"' + b"a" * BYTES)
    yield "escapes", container(b'{"' + b"\\u0061" * (BYTES // 6) + b'":0}')
    yield "spaces", container(b'{"a":0}' + b" " * BYTES)
