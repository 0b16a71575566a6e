"""One more than the format allows: container.md, section 4; descriptor.md, section 1; architectures.md."""

from collections.abc import Iterator
from typing import Any

from . import invalid_container, invalid_form
from .canonical import canonical
from .codings import stream
from .invalid_container import parts
from .invalid_descriptor import of_architecture, of_call
from .invalid_form import ADAPTED, at, changed, drop, put
from .model import Model, linear, sequential, tensor
from .pack import assemble
from .small import MOST_OF_A_KEY, Invalid, small


def texts() -> Iterator[Invalid]:
    """Keys, strings and arrays that are too long, and keys that stand there twice."""
    header, data = parts()
    header["k" * (MOST_OF_A_KEY + 1)] = header["0.bias"]
    yield invalid_container.fault("long_key", "json", "header", "a key of 8,193 bytes", assemble(header, data))
    header, data = parts()
    text = canonical(header).replace(b'"0.bias"', b'"1":0,"0.bias"', 1).replace(b'"0.lora_A"', b'"1":0,"0.lora_A"', 1)
    why = "a key twice, neither in order nor beside itself"
    yield invalid_container.fault("key_twice", "canonical", "header", why, assemble(text, data))
    model = small()
    model.descriptor["x-"] = {"é" * (MOST_OF_A_KEY // 2) + "k": 0}
    yield invalid_form.fault("long_key", "json", "descriptor", "a key of 8,193 bytes", model.file())
    header, data = parts()
    header["0.bias"]["x"] = "a" * 70_000
    yield invalid_container.fault("long", "entry", "header.0.bias", "a long field too many", assemble(header, data))
    for name, place, kind, why, change in (
        (
            "provenance_too_many",
            "provenance",
            "field",
            "65 tools",
            put("provenance", dict.fromkeys(map(str, range(65)), "")),
        ),
        ("seed_long", "rng.seed", "field", "a seed of 70,000 digits", put("rng/seed", "0" * 70_000)),
        (
            "shape_long",
            at("2.bias", "shape"),
            "shape",
            "70,000 dimensions",
            put("parameters/2.bias/shape", [1] * 70_000),
        ),
        (
            "shape_long_float",
            at("2.bias", "shape"),
            "field",
            "70,000 dimensions, of which the last is a float",
            put("parameters/2.bias/shape", [1] * 69_999 + [1.0]),
        ),
    ):
        yield invalid_form.fault(name, kind, place, why, changed(change))
    path = "parameters/2.weight/distribution"
    place, why = at("2.weight", "distribution"), "an id of 70,000 letters"
    yield invalid_form.fault("distribution_long", "id", place, why, changed(put(path, "a" * 70_000)))
    for field in ("torch", "capability"):
        model = Model(sequential(linear(3, 2, bias=False)))
        model.descriptor["rng"] |= {"id": "torch-cpu", "torch": "2.13.0", "capability": "AVX2", field: "a" * 65}
        model.stored("0.weight", tensor("float32", 2, 3), "head")
        yield invalid_form.fault(f"{field}_long", "field", f"rng.{field}", "65 characters", model.file())


def several() -> Iterator[Invalid]:
    """Two faults of form in one entry: the first in the order of the text is named, a missing field last."""
    adapter = f"parameters/{ADAPTED}/adapter"
    changes: list[tuple[str, str, str, list[invalid_form.Change]]] = [
        (
            "missing_inside",
            "adapter.beta",
            "a beta without sha256, and an alpha that is an integer",
            [drop(f"{adapter}/beta/sha256"), put(f"parameters/{ADAPTED}/alpha", 8)],
        ),
        (
            "missing_outside",
            "alpha",
            "no dtype, and an alpha that is an integer",
            [drop(f"parameters/{ADAPTED}/dtype"), put(f"parameters/{ADAPTED}/alpha", 8)],
        ),
        (
            "deep",
            "adapter.beta.dtype",
            "a dtype that is a number, in beta and outside",
            [put(f"{adapter}/beta/dtype", 1), put(f"parameters/{ADAPTED}/dtype", 1)],
        ),
    ]
    for name, place, why, both in changes:
        model = small()
        for change in both:
            change(model.descriptor)
        yield invalid_form.fault(f"two_{name}", "field", at(ADAPTED, place), why, model.file())


def architectures() -> Iterator[Invalid]:
    """Configurations, trees and names."""
    many = {"a": [0] * 100_000}
    yield of_call("too_many", "config", "transformers: 100,001 values", "transformers", "GPT2Model", many)
    for family, called in (("transformers", "A" * 513), ("timm", "a" * 513)):
        yield of_call(f"{family}_long", "class", f"{family}: a name of 513 characters", family, called, {})
    tree = levels(17)
    where = "architecture" + ".config.children[0]" * 16
    yield of_architecture("tree_too_deep", where, "a module at level 17", tree)
    value: Any = {"tuple": [1]}
    for _ in range(5):
        value = {"a b": [value]}
    for _ in range(3):
        value = [value]
    config = {"x": {"tuple": [{"class": "a:C", "config": {"y": value}}]}}
    where = "config.x.tuple[0].config.y[0][0][0]" + ".a b[0]" * 5 + ".tuple[0]"
    yield of_call("python_mixed_too_deep", where, "python: level 17, through every form", "python", "a:B", config)
    nodes = [{"name": str(number), "class": "Tanh", "config": {}} for number in range(10_000)]
    wide = {"family": "torch.nn", "class": "Sequential", "config": {"children": nodes}}
    where = "architecture.config.children[0]"
    yield of_architecture("tree_too_wide", where, "10,001 modules: the last is counted first", wide)


def levels(count: int) -> dict[str, Any]:
    """A tree of so many levels: Sequentials, and a leaf as the last."""
    leaf, config = linear(2, 2, bias=False)
    for _ in range(count - 1):
        leaf, config = "Sequential", {"children": [{"name": "0", "class": leaf, "config": config}]}
    return {"family": "torch.nn", "class": leaf, "config": config}


def ranks() -> Iterator[Invalid]:
    """A rank beyond what vectors allow."""
    model = Model(sequential())
    drawn = {"lora_A": ("sign1", 0.5), "lora_B": ("sign1", 0.25)}
    model.adapted("w", [2, 3], rank=4097, vectors=("lambda_b", "lambda_d"), drawn=drawn, adapter_dtype="float16")
    yield invalid_form.fault("rank_over_4096", "shape", at("w", "rank"), "VeRA of rank 4,097", model.file())


def types() -> Iterator[Invalid]:
    """Arrays and numbers where objects and strings are due."""
    made = changed(put("provenance", []))
    yield invalid_form.fault("provenance_array", "field", "provenance", "an array for an object", made)
    child = "architecture.config.children[0]"
    for name, wrong in (
        ("class_number", {"class": 1, "config": {}}),
        ("config_array", {"class": "Tanh", "config": []}),
    ):
        tree = sequential(("Tanh", {}))
        tree["config"]["children"] = [{"name": "0", **wrong}]
        yield of_architecture(f"child_{name}", child, "a child whose class or config has another type", tree)


def growth() -> Iterator[Invalid]:
    """Streams of a size that no stream of these lengths has, or just could have."""
    zeros = stream(bytes(1032))
    for more, section, kind in ((0, "contents", "coding"), (1, "agreement", "mismatch")):
        count = 258 * len(zeros.data) + more
        model = Model(sequential(("PReLU", {"num_parameters": count, "init": 0.25})))
        model.coded("0.weight", "float32", [258], "planes-zlib", zeros)
        model.parameters["0.weight"] |= {"shape": [count], "sha256": "0" * 64}
        why = f"{4 * count:,} bytes from a stream of {len(zeros.data)}"
        yield Invalid(f"{section}_{kind}_growth_{more}", why, section, kind, "0.weight.codes", model.file())


def cases() -> Iterator[Invalid]:
    """All of them."""
    for group in (texts, several, architectures, ranks, types, growth):
        yield from group()
