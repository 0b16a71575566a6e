"""Packs that are valid: several scaffolds."""

from .model import Model, linear, sequential
from .shown import shows
from .valid_basics import minimal


def roles_but_stored(seed: int) -> Model:
    """Generated weights, one with an adapter, one from a table of the pack's own; a tie; a constant."""
    leaves = linear(4, 6), linear(6, 6, bias=False), ("ReLU", {"inplace": False}), linear(4, 6, bias=False)
    model = Model(sequential(*leaves), seed)
    model.table("own_2", 2, [0xBFC00000, 0x00000000, 0x3E800000, 0x3FC00000])
    model.adapted("0.weight", [6, 4], rank=2)
    model.constant("0.bias", [6], "float32", "00000000")
    model.seeded("1.weight", [6, 6], "bfloat16", distribution="own_2")
    model.tied("3.weight", "0.weight")
    return model


@shows("three scaffolds: the seeds 42, 43 and 0 under one adapter; names with every sign that one may have")
def scaffolds() -> Model:
    model = roles_but_stored(42)
    model.scaffold("task-b", roles_but_stored(43))
    model.scaffold("0.of_3", roles_but_stored(0))
    return model


@shows("a second scaffold of a model of which nothing is generated; fields that may be ignored in its entry")
def scaffold_of_nothing() -> Model:
    model = Model(sequential(("ReLU", {"inplace": False})))
    model.scaffold("b", Model(sequential(("ReLU", {"inplace": False})), 43))
    model.descriptor["rng"]["scaffolds"]["b"]["x-note"] = [1]
    return model


@shows("64 scaffolds beside the default, the longest name among them")
def most_scaffolds() -> Model:
    model = minimal()
    for number in range(64):
        twin = Model(sequential(linear(2, 2, bias=False)), seed=2**63 + number)
        twin.seeded("0.weight", [2, 2])
        model.scaffold("n" * 64 if number == 0 else f"n{number}", twin)
    return model
