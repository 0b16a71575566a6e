"""Texts that are longer than the format allows: container.md, sections 1 and 4; descriptor.md, section 2."""

from collections.abc import Iterator
from typing import Any

from . import invalid_container, invalid_form
from .canonical import canonical
from .invalid_container import parts
from .invalid_descriptor import of_call
from .invalid_form import ADAPTED, CONSTANT, at
from .pack import assemble
from .small import MOST_OF_A_KEY, MOST_OF_AN_ENTRY, Invalid, filled, small


def cases() -> Iterator[Invalid]:
    """Each is one byte, or one value, too long."""
    header, data = parts()
    filled(header["0.bias"], "x", MOST_OF_AN_ENTRY + 1)
    why = "an entry of 32,769 bytes"
    yield invalid_container.fault("too_long", "entry", "header.0.bias", why, assemble(header, data))
    header, data = parts()
    header["k" * (MOST_OF_A_KEY + 1)] = header["0.bias"]
    yield invalid_container.fault("long_key", "json", "header", "a key of 8,193 bytes", assemble(header, data))
    header, data = parts()
    text = canonical(header).replace(b'"0.bias"', b'"1":0,"0.bias"', 1).replace(b'"0.lora_A"', b'"1":0,"0.lora_A"', 1)
    why = "a key twice, neither in order nor beside itself"
    yield invalid_container.fault("key_twice", "canonical", "header", why, assemble(text, data))

    table = 'rng.tables["own"]'
    for name, place, path in (
        ("entry", at(CONSTANT), ("parameters", CONSTANT)),
        ("table", table, ("rng", "tables", "own")),
        ("adapted", at(ADAPTED), ("parameters", ADAPTED)),
    ):
        model = small()
        value: Any = model.descriptor
        for step in path:
            value = value[step]
        filled(value, "x-", MOST_OF_AN_ENTRY + 1)
        yield invalid_form.fault(f"{name}_too_long", "field", place, "an entry of 32,769 bytes", model.file())
    model = small()
    filled(model.descriptor["provenance"], "vectors", MOST_OF_AN_ENTRY + 1)
    yield invalid_form.fault("provenance_too_long", "field", "provenance", "32,769 bytes", model.file())
    for field in ("rng/seed", "architecture/class"):
        model = small()
        outer, inner = field.split("/")
        model.descriptor[outer][inner] = "a" * (MOST_OF_AN_ENTRY - 1)
        name, place = f"{inner}_too_long", field.replace("/", ".")
        yield invalid_form.fault(name, "field", place, "a string of 32,769 bytes", model.file())
    model = small()
    model.descriptor["x-"] = {"é" * (MOST_OF_A_KEY // 2) + "k": 0}
    yield invalid_form.fault("long_key", "json", "descriptor", "a key of 8,193 bytes", model.file())
    many = {"a": [0] * 100_000}
    yield of_call("too_many", "config", "transformers: 100,001 values", "transformers", "GPT2Model", many)
