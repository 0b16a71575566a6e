"""The sound pack from which the faulty ones are made, and the record of a fault."""

from dataclasses import dataclass
from typing import Any

from .canonical import canonical
from .model import Model, linear, sequential, tensor

MOST_OF_AN_ENTRY = 32_768
MOST_OF_A_KEY = 8_192


@dataclass(frozen=True)
class Invalid:
    """A file with one fault, and what its sidecar says: refusals.md."""

    name: str
    why: str
    section: str
    kind: str
    where: str
    data: bytes

    @property
    def sidecar(self) -> dict[str, Any]:
        """The sidecar."""
        return {"why": self.why, "section": self.section, "kind": self.kind, "where": self.where}


def small(seed: int = 42) -> Model:
    """Two linear layers, every role but ``tied``, and a table of the pack's own."""
    model = Model(sequential(linear(4, 3), ("ReLU", {"inplace": False}), linear(3, 2)), seed)
    model.table("own", 2, [0xBFC00000, 0xBE800000, 0x3E800000, 0x3FC00000])
    model.adapted("0.weight", [3, 4])
    model.stored("0.bias", tensor("float32", 3), "bias")
    model.seeded("2.weight", [2, 3], distribution="own")
    model.constant("2.bias", [2], "float32", "00000000")
    return model


def filled(value: dict[str, Any], key: str, size: int) -> None:
    """Give ``value`` a string under ``key`` with which its text takes ``size`` bytes."""
    value[key] = ""
    value[key] = "a" * (size - len(canonical(value)))
