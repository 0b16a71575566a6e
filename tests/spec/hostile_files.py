"""Large files that cost a reader as much as possible for their size. Independent of lottapack."""

import hashlib
import json
import math
from collections.abc import Iterator
from itertools import pairwise, product
from string import ascii_lowercase
from typing import Any

BYTES = 250_000
"""About the size of each; the cost grows with it."""


def container(text: bytes) -> bytes:
    """A file that is nothing but a header."""
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def descriptor(tensors: dict[str, Any] | None = None, **fields: Any) -> bytes:
    """Return a pack without data, valid except for the given parts. ``tensors``: the header's entries."""
    architecture = {"family": "torch.nn", "class": "ReLU", "config": {"inplace": False}}
    rng = {"id": "philox4x32-10", "seed": "0" * 16, "tables": {}}
    whole = {"lottapack": "1.0", "architecture": architecture, "rng": rng, "parameters": {}, "provenance": {}}
    text = dump({**whole, **fields})
    metadata = {"lottapack": text.decode(), "lottapack.sha256": hashlib.sha256(text).hexdigest()}
    return container(dump({"__metadata__": metadata, **(tensors or {})}))


def numbered(count: int, value: Any) -> dict[str, Any]:
    return {f"{number:06d}": value for number in range(count)}


def packed(parameters: dict[str, Any], tensors: dict[str, Any], **fields: Any) -> bytes:
    """A pack whose tensors are float32, given by name and shape, and hold zeros."""
    place, header = 0, {}
    for name in sorted(tensors):
        end = place + 4 * math.prod(tensors[name])
        header[name] = {"data_offsets": [place, end], "dtype": "F32", "shape": tensors[name]}
        place = end
    return descriptor(header, parameters=parameters, **fields) + bytes(place)


def sha256(shape: list[int]) -> str:
    return hashlib.sha256(bytes(4 * math.prod(shape))).hexdigest()


def packs_that_are_right() -> Iterator[tuple[str, bytes]]:
    """Return valid packs with as little text as possible for their cost."""
    constant = {"role": "constant", "shape": [], "dtype": "int8", "value": "00"}
    yield "constants", descriptor(parameters=numbered(BYTES // 100, constant))
    cubes = {"role": "constant", "shape": [1] * 8, "dtype": "int8", "value": "00"}
    yield "constants of eight dimensions", descriptor(parameters=numbered(BYTES // 120, cubes))
    ties = numbered(BYTES // 50, {"role": "tied", "to": "a"})
    yield "ties to one", descriptor(parameters=ties | {"a": constant})
    short = list(map("".join, product(ascii_lowercase, repeat=3)))[: BYTES // 44]
    tie = {name: {"role": "tied", "to": to} for name, to in pairwise(short)}
    yield "a chain of short names", descriptor(parameters=tie | {short[-1]: constant})
    yield (
        "short names tied to one",
        descriptor(parameters={name: {"role": "tied", "to": "zzzz"} for name in short} | {"zzzz": constant}),
    )
    names = [f"{number:05d}" for number in range(BYTES // 300)]
    vector = {
        "dtype": "float32",
        "shape": [0],
        "role": "stored",
        "group": "head",
        "trained": True,
        "sha256": sha256([0]),
    }
    yield "stored", packed(dict.fromkeys(names, vector), {name: [0] for name in names})
    seeded = {"role": "seeded", "shape": [1], "dtype": "float16", "distribution": "sign1", "scale": 1.0}
    drawn = numbered(BYTES // 170, {**seeded, "fingerprint": "0" * 16})
    yield "seeded", descriptor(parameters=drawn)
    few = numbered(BYTES // 1000, {**seeded, "fingerprint": "0" * 16})
    prints = dict.fromkeys(few, "0" * 16)
    scaffolds = {f"{number}": {"seed": f"{number:016x}", "fingerprints": prints} for number in range(1, 30)}
    rng = {"id": "philox4x32-10", "seed": "0" * 16, "tables": {}}
    yield "scaffolds", descriptor(parameters=few, rng={**rng, "scaffolds": scaffolds})
    yield (
        "fingerprints of nothing",
        descriptor(
            rng={**rng, "scaffolds": {"a": {**scaffolds["1"], "fingerprints": numbered(BYTES // 32, "0" * 16)}}}
        ),
    )
    parts = {"lora_A": [1, 1], "lora_B": [1, 1], "beta": [1], "magnitude": [1]}
    adapter = {part: {"dtype": "float32", "sha256": sha256([1])} for part in parts}
    adapted = {**seeded, "shape": [1, 1], "fingerprint": "0" * 16, "fan_in_fan_out": False, "rank": 1, "alpha": 1.0}
    adapted |= {"scaling": "lora", "adapter": adapter}
    places = range(BYTES // 1200)
    tensors = {f"{number:05d}.{part}": shape for number in places for part, shape in parts.items()}
    yield "adapted", packed({f"{number:05d}.weight": adapted for number in places}, tensors)
    for what, module in (
        ("small modules", {"class": "Tanh", "config": {}}),
        ("modules with arrays", {"class": "AdaptiveAvgPool3d", "config": {"output_size": [1, 1, 1]}}),
        ("modules with modules", {"class": "Sequential", "config": {"children": []}}),
    ):
        children = [{"name": str(number), **module} for number in range(min(9_999, BYTES // len(dump(module))))]
        architecture = {"family": "torch.nn", "class": "Sequential", "config": {"children": children}}
        yield what, descriptor(architecture=architecture)
    labels = {str(number): f"LABEL_{number}" for number in range(BYTES // 40)}
    config = {"id2label": labels, "label2id": {label: int(number) for number, label in labels.items()}}
    yield "labels", descriptor(architecture={"family": "transformers", "class": "ViTModel", "config": config})
    lines = {"a": ["\u0142" * 100] * (BYTES // 210)}
    yield "strings", descriptor(architecture={"family": "python", "class": "a:A", "config": lines})
    one = {"a": "\U0001f3b2" + "a" * BYTES}
    yield "one wide string", descriptor(architecture={"family": "python", "class": "a:A", "config": one})
    lists = {"a": [[0]] * 4_999}
    yield "arguments", descriptor(architecture={"family": "python", "class": "a:A", "config": lists})


def as_trained(layers: int) -> bytes:
    """A pack with an adapted, a seeded, a stored and a constant parameter in each layer."""
    parameters: dict[str, Any] = {}
    tensors: dict[str, list[int]] = {}
    for number in range(layers):
        name = f"model.layers.{number}"
        seeded = {"role": "seeded", "shape": [16, 8], "dtype": "float32", "distribution": "normal16", "scale": 0.25}
        seeded["fingerprint"] = f"{number:016x}"
        shapes = {"beta": [1], "lora_A": [2, 8], "lora_B": [16, 2]}
        adapter = {part: {"dtype": "float32", "sha256": sha256(shape)} for part, shape in shapes.items()}
        adapted = {**seeded, "role": "adapted", "fan_in_fan_out": False, "rank": 2, "alpha": 8.0, "scaling": "lora"}
        tensors |= {f"{name}.self_attn.q_proj.{part}": shape for part, shape in shapes.items()}
        parameters[f"{name}.self_attn.q_proj.weight"] = {**adapted, "adapter": adapter}
        parameters[f"{name}.mlp.gate_proj.weight"] = seeded
        norm = {"role": "stored", "shape": [8], "dtype": "float32", "group": "norm", "trained": True}
        parameters[f"{name}.input_layernorm.weight"] = {**norm, "sha256": sha256([8])}
        tensors[f"{name}.input_layernorm.weight"] = [8]
        constant = {"role": "constant", "shape": [8], "dtype": "float32", "value": "3f800000"}
        parameters[f"{name}.self_attn.q_proj.bias"] = constant
    return packed(parameters, tensors)


def values_in_every_place() -> Iterator[tuple[str, bytes]]:
    """Return packs with many small values in every possible place."""
    many = [[]] * 10_000 + [{"a": 0}] * 3_000
    places = [f"{number:06d}" for number in range(BYTES // 35_000)]
    constant = {"role": "constant", "shape": [], "dtype": "int8", "value": "00", "x-": [[]] * 10_500}
    yield "entries with what may be ignored", descriptor(parameters=dict.fromkeys(places, constant))
    yield "a long shape", descriptor(parameters={"a": {**constant, "shape": [1] * (BYTES // 2)}})
    yield "a long shape with a float", descriptor(parameters={"a": {**constant, "shape": [1] * (BYTES // 2) + [1.0]}})
    yield "a shape of lists", descriptor(parameters={"a": {**constant, "shape": [[]] * (BYTES // 3)}})
    yield "a shape of floats", descriptor(parameters={"a": {**constant, "shape": [0.5] * (BYTES // 4)}})
    yield "a long value", descriptor(parameters={"a": {**constant, "value": "0" * BYTES}})
    yield "many fields of an entry", descriptor(parameters={"a": constant | numbered(BYTES // 11, 0)})
    yield "long lists as offsets", container(dump({"a": {"dtype": "F32", "shape": [], "data_offsets": many}}))
    yield "a long field that is ignored", descriptor(parameters={"a": {**constant, "x-": many}})
    yield "fields that are unknown", descriptor(**numbered(BYTES // 11, 0))
    yield "fields that may be ignored", descriptor(**{f"x-{number:06d}": 0 for number in range(BYTES // 15)})
    architecture = {"family": "torch.nn", "class": "ReLU", "config": {"inplace": False}}
    yield "fields of an architecture", descriptor(architecture=architecture | numbered(BYTES // 11, 0))
    yield "arguments of a module", descriptor(architecture={**architecture, "config": numbered(BYTES // 11, 0)})
    yield "a family that is a list", descriptor(architecture={**architecture, "family": many})
    yield "a class that is long", descriptor(architecture={**architecture, "class": "\U0001f3b2" + "a" * BYTES})
    rng = {"id": "philox4x32-10", "seed": "0" * 16, "tables": {}}
    for field in (*rng, "torch", "scaffolds"):
        yield f"a list as {field}", descriptor(rng={**rng, field: many})
    yield "tables that are numbers", descriptor(rng={**rng, "tables": numbered(BYTES // 11, 0)})
    yield "scaffolds that are numbers", descriptor(rng={**rng, "scaffolds": numbered(BYTES // 11, 0)})
    yield "versions", descriptor(lottapack=many)
    yield "parameters that are a list", descriptor(parameters=many)
    yield "wide names", descriptor(parameters={f"\U0001f3b2{number:06d}": {} for number in range(BYTES // 16)})
    deep: Any = [[]] * (BYTES // 4)
    for _ in range(58):
        deep = [deep]
    for family in ("transformers", "python"):
        yield (
            f"deep lists of {family}",
            descriptor(architecture={"family": family, "class": "a:A", "config": {"a": deep}}),
        )
    chain: Any = []
    for _ in range(58):
        chain = [chain]
    chains = [chain] * (BYTES // 130)
    for family, name in (("transformers", "A"), ("python", "a:A")):
        yield f"chains of {family}", descriptor(architecture={"family": family, "class": name, "config": {"a": chains}})
    yield "chains", container(dump({"__metadata__": chains}))
    twice = {"lottapack": "{}", "lottapack.sha256": "0" * 64}
    yield "metadata with many keys", container(dump({"__metadata__": twice | numbered(BYTES // 11, "")}))
    yield "wide metadata", container(dump({"__metadata__": {**twice, "lottapack": "\U0001f3b2" + '"' * (BYTES // 2)}}))
    yield "escaped metadata", container(dump({"__metadata__": {**twice, "lottapack": "\\\n" * (BYTES // 4)}}))
    yield "keys out of order", container(b'{"b":0,' + b",".join(b'"a%05d":0' % n for n in range(BYTES // 12)) + b"}")
    yield "white space", container(b'{"a":[0' + b" ,0" * (BYTES // 3) + b"]}")
    yield "floats in a long form", container(b'{"a":[0' + b",1.50" * (BYTES // 5) + b"]}")


def files() -> Iterator[tuple[str, bytes]]:
    """Return all of them by name."""
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
    yield from values_in_every_place()
    yield from packs_that_are_right()
    yield "one name", descriptor(parameters={"n" * BYTES: constant})
    yield "one string", descriptor(provenance={"a": "\u0142" * (BYTES // 2)})
    yield "one number", container(b'{"__metadata__":' + b"9" * BYTES + b"}")
    yield "digits behind the point", container(b'{"__metadata__":0.' + b"9" * BYTES + b"}")
    yield "depth", container(b"[" * BYTES)
    yield "one string without an end", container(b'{"' + b"a" * BYTES)
    yield "escapes", container(b'{"' + b"\\u0061" * (BYTES // 6) + b'":0}')
    yield "spaces", container(b'{"a":0}' + b" " * BYTES)
