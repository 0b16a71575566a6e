"""The sound pack from which the faulty ones are made, and the record of a fault."""

from dataclasses import dataclass
from typing import Any

from .model import Model, linear, sequential, tensor

MOST_BYTES = 2**34
"""The memory that a reader allows in the vectors: 16 GiB."""
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
    allowed: int | None = None

    @property
    def sidecar(self) -> dict[str, Any]:
        """The sidecar."""
        said = {"why": self.why, "section": self.section, "kind": self.kind, "where": self.where}
        return said if self.allowed is None else said | {"allowed": self.allowed}


def small(seed: int = 42) -> Model:
    """Two linear layers, every role but ``tied``, and a table of the pack's own."""
    model = Model(sequential(linear(4, 3), ("ReLU", {"inplace": False}), linear(3, 2)), seed)
    model.table("own", 2, [0xBFC00000, 0xBE800000, 0x3E800000, 0x3FC00000])
    model.adapted("0.weight", [3, 4])
    model.stored("0.bias", tensor("float32", 3), "bias")
    model.seeded("2.weight", [2, 3], distribution="own")
    model.constant("2.bias", [2], "float32", "00000000")
    return model
