"""Faults of scaffolds: descriptor.md, section 6."""

from collections.abc import Callable, Iterator
from typing import Any

from .canonical import canonical
from .invalid_form import fault
from .model import Model, linear, sequential
from .small import Invalid, small

Change = Callable[[dict[str, Any]], object]


def at(name: str, field: str = "") -> str:
    """The place of a scaffold, or of one of its fields."""
    return f"rng.scaffolds{canonical([name]).decode()}" + (f".{field}" if field else "")


def two() -> Model:
    """The small pack on two scaffolds."""
    model = small()
    model.scaffold("task-b", small(43))
    return model


def changed(change: Change) -> bytes:
    """The pack with two scaffolds, its ``rng.scaffolds`` changed."""
    model = two()
    change(model.descriptor["rng"]["scaffolds"])
    return model.file()


def forms() -> Iterator[Invalid]:
    """Fields, names and numbers of scaffolds."""
    b = "task-b"
    prints = at(b, "fingerprints")
    weight = f'{prints}["0.weight"]'
    changes: list[tuple[str, str, str, Change]] = [
        ("unknown", at(b), "an unknown field", lambda it: it[b].update(name="b")),
        ("no_seed", at(b), "no seed", lambda it: it[b].pop("seed")),
        ("no_fingerprints", at(b), "no fingerprints", lambda it: it[b].pop("fingerprints")),
        ("entry_string", at(b), "a seed in the place of the entry", lambda it: it.update({b: "0" * 16})),
        ("seed_number", at(b, "seed"), "a seed that is a number", lambda it: it[b].update(seed=43)),
        ("seed_short", at(b, "seed"), "a seed of 15 digits", lambda it: it[b].update(seed="0" * 14 + "9")),
        ("fingerprints_array", prints, "fingerprints in an array", lambda it: it[b].update(fingerprints=[])),
        (
            "fingerprint_short",
            weight,
            "a fingerprint of 15 digits",
            lambda it: it[b]["fingerprints"].update({"0.weight": "0" * 15}),
        ),
        (
            "fingerprint_number",
            weight,
            "a fingerprint that is a number",
            lambda it: it[b]["fingerprints"].update({"0.weight": 0}),
        ),
        ("none", "rng.scaffolds", "no scaffold in the field", lambda it: it.clear()),
    ]
    for name, where, why, change in changes:
        yield fault(f"scaffold_{name}", "field", where, why, changed(change))
    model = small()
    model.descriptor["rng"]["scaffolds"] = []
    yield fault("scaffolds_array", "field", "rng.scaffolds", "scaffolds in an array", model.file())
    model = small()
    for seed in range(65):
        model.scaffold(f"n{seed}", small(100 + seed))
    yield fault("scaffolds_65", "field", "rng.scaffolds", "65 scaffolds beside the default", model.file())
    model = Model(sequential(linear(4, 3, bias=False)))
    model.constant("0.weight", [3, 4], "float32", "00000000")
    twin = Model(sequential(linear(4, 3, bias=False)), 43)
    model.scaffold("task-b", twin)
    model.descriptor["rng"] |= {"id": "torch-cpu", "torch": "2.13.0", "capability": "AVX2"}
    yield fault("scaffolds_torch", "field", "rng", "a second scaffold with torch-cpu", model.file())
    for name, bad in (
        ("empty", ""),
        ("default", "default"),
        ("upper_case", "Task-b"),
        ("long", "n" * 65),
        ("slash", "a/b"),
        ("point", ".a"),
        ("line_feed", "a\n"),
        ("letter", "größe"),
    ):
        model = small()
        model.scaffold(bad, small(43))
        yield fault(f"scaffold_{name}", "id", at(bad), f"the name {bad!r} for a scaffold", model.file())


def contradictions() -> Iterator[Invalid]:
    """Seeds that are the same, and fingerprints of other parameters than those generated."""
    model = small()
    model.scaffold("task-b", small(42))
    yield fault("of_default", "scaffold", at("task-b", "seed"), "the seed of the default scaffold", model.file())
    model = two()
    model.scaffold("task-c", small(43))
    yield fault("same_seed", "scaffold", at("task-c", "seed"), "two scaffolds of one seed", model.file())
    prints = at("task-b", "fingerprints")
    for name, why, extra in (
        ("stored", "a fingerprint of a stored parameter", "0.bias"),
        ("unknown", "a fingerprint of no parameter", "9.weight"),
    ):
        made = changed(lambda it, extra=extra: it["task-b"]["fingerprints"].update({extra: "0" * 16}))  # type: ignore[misc]
        yield fault(name, "scaffold", prints, why, made)
    lacking = changed(lambda it: it["task-b"]["fingerprints"].pop("2.weight"))
    yield fault("missing", "scaffold", prints, "the fingerprint of a generated parameter is missing", lacking)


def contents() -> Iterator[Invalid]:
    """A fingerprint that is not that of the scaffold's weight, though that of ``default`` is right."""
    for name, where in (("adapted", "0.weight"), ("seeded", "2.weight")):
        model = two()
        prints = model.descriptor["rng"]["scaffolds"]["task-b"]["fingerprints"]
        prints[where] = model.parameters[where]["fingerprint"]
        place = f"{at('task-b', 'fingerprints')}{canonical([where]).decode()}"
        why = "the fingerprint of the default scaffold in another"
        yield Invalid(f"contents_fingerprint_scaffold_{name}", why, "contents", "fingerprint", place, model.file())


def cases() -> Iterator[Invalid]:
    """All of them."""
    for group in (forms, contradictions, contents):
        yield from group()
