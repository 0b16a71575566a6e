"""Faults of adapters: descriptor.md, section 4, and codings.md, sections 9 and 10."""

from collections.abc import Iterator
from typing import Any

from . import invalid_form
from .canonical import canonical
from .invalid_codings import NAME, coded_adapter
from .invalid_form import at
from .merge import VERA
from .model import Model, linear, sequential, tensor
from .small import Invalid

SECOND = "1.weight"


def fault(name: str, kind: str, where: str, why: str, model: Model) -> Invalid:
    """A fault of the descriptor."""
    return invalid_form.fault(name, kind, where, why, model.file())


def fault_of_text(name: str, why: str, data: bytes) -> Invalid:
    """A descriptor whose text is not canonical."""
    return invalid_form.fault(name, "canonical", "descriptor", why, data)


def with_fields(model: Model, name: str, fields: dict[str, Any]) -> Model:
    """The model with other fields in the coding of a ``lora_A``; without those that are None."""
    coding = model.parameters[name]["adapter"]["lora_A"]["coding"] | fields
    model.parameters[name]["adapter"]["lora_A"]["coding"] = {
        field: value for field, value in coding.items() if value is not None
    }
    return model


def seeded_factors() -> Iterator[Invalid]:
    """Factors of an adapter that come from the seed."""

    def made(**changed: object) -> Model:
        model = Model(sequential(linear(13, 5, bias=False)))
        model.adapted(NAME, [5, 13], drawn={"lora_A": ("uniform16", 0.5)})
        return with_fields(model, NAME, changed)

    where = at(NAME, "adapter.lora_A.coding")
    sound: list[tuple[str, str, str, str, dict[str, object]]] = [
        ("with_codes", "field", "", "codes of what comes from the seed", {"codes": "0" * 64}),
        ("with_scales", "field", "", "scales of what comes from the seed", {"scales": "0" * 64}),
        ("without_scale", "field", "", "no scale", {"scale": None}),
        ("without_distribution", "field", "", "no distribution", {"distribution": None}),
        ("scale_of_integer", "field", ".scale", "a scale that is an integer", {"scale": 1}),
        ("scale_of_text", "field", ".scale", "a scale that is a string", {"scale": "0.5"}),
        ("unknown_table", "id", ".distribution", "a table that does not exist", {"distribution": "normal3"}),
        ("hadamard", "id", ".distribution", "a distribution for whole weights", {"distribution": "hadamard"}),
        ("scale_zero", "scale", ".scale", "a scale of 0", {"scale": 0.0}),
        ("scale_rounded", "scale", ".scale", "a scale that is no binary32 number", {"scale": 0.1}),
    ]
    for name, kind, field, why, changed in sound:
        yield fault(f"seeded_factor_{name}", kind, where + field, why, made(**changed))
    text = canonical(made(scale=2.0**-20).descriptor)
    short = text.replace(b"9.5367431640625e-07", b"9.5367431640625e-7")
    assert short != text
    yield fault_of_text("seeded_factor_exponent", "an exponent of one digit in a coding", made().file(short))
    model = made()
    model.parameters[NAME]["adapter"]["beta"]["coding"] = {"id": "seeded", "distribution": "sign1", "scale": 1.0}
    del model.tensors["0.beta"]
    yield fault("seeded_beta", "id", at(NAME, "adapter.beta.coding.id"), "a beta from the seed", model)
    model = made()
    model.descriptor["rng"] |= {"id": "torch-cpu", "torch": "2.13.0", "capability": "AVX2"}
    model.parameters[NAME] |= {"distribution": "constructor", "scale": 1.0}
    yield fault("seeded_factor_torch", "id", f"{where}.id", "a factor from the seed with torch-cpu", model)
    model = Model(sequential(linear(13, 5, bias=False)))
    model.stored(NAME, tensor("float32", 5, 13), "head")
    model.parameters[NAME]["coding"] = {"id": "seeded", "distribution": "sign1", "scale": 1.0}
    del model.tensors[NAME]
    yield fault("seeded_stored", "id", at(NAME, "coding.id"), "a stored parameter from the seed", model)
    model = coded_adapter()
    model.parameters[NAME]["adapter"]["lora_A"]["coding"]["distribution"] = "sign1"
    yield fault("coding_with_distribution", "field", where, "a distribution of a coding that lies in the file", model)
    model = Model(sequential(linear(13, 5, bias=False)))
    model.table("own", 1, [0x3F800000, 0x7F000000])
    model.adapted(NAME, [5, 13], drawn={"lora_A": ("own", 1.0)})
    model.parameters[NAME]["adapter"]["lora_A"]["coding"]["scale"] = 4.0
    yield fault("seeded_factor_overflow", "scale", f"{where}.scale", "an infinite product with an entry", model)


def slices() -> Iterator[Invalid]:
    """Factors of an adapter that are parts of another one, and the vectors beside them."""
    second, vectors = SECOND, VERA

    def made(**changed: object) -> Model:
        model = Model(sequential(linear(13, 5, bias=False), linear(5, 4, bias=False)))
        model.adapted(NAME, [5, 13], rank=3, vectors=vectors)
        model.adapted(second, [4, 5], rank=2, vectors=vectors, slices={"lora_A": NAME, "lora_B": NAME})
        return with_fields(model, second, changed)

    where = at(second, "adapter.lora_A.coding")
    changes: list[tuple[str, str, str, str, dict[str, object]]] = [
        ("with_codes", "field", "", "codes of what is part of another factor", {"codes": "0" * 64}),
        ("with_scale", "field", "", "a scale of what is part of another factor", {"scale": 0.5}),
        ("without_of", "field", "", "no owner", {"of": None}),
        ("of_unknown", "tied", ".of", "an owner that does not exist", {"of": "2.weight"}),
        ("of_itself", "tied", ".of", "an owner that is the parameter itself", {"of": second}),
        ("of_tensor", "tied", ".of", "an owner that is the name of a tensor", {"of": "0.lora_A"}),
        ("of_number", "field", ".of", "an owner that is a number", {"of": 0}),
    ]
    for name, kind, field, why, changed in changes:
        yield fault(f"slice_{name}", kind, where + field, why, made(**changed))
    model = made()
    model.parameters[second]["adapter"]["lambda_d"]["coding"] = {"id": "slice", "of": NAME}
    del model.tensors["1.lambda_d"]
    yield fault("slice_vector", "id", at(second, "adapter.lambda_d.coding.id"), "a vector that is a slice", model)
    of = f"{where}.of"
    model = made()
    model.parameters[second]["adapter"]["lora_A"]["dtype"] = "float16"
    yield fault("slice_dtype", "tied", of, "an owner whose factor has another dtype", model)


def owners() -> Iterator[Invalid]:
    """Owners of the factors that slices are part of."""
    second, of = SECOND, at(SECOND, "adapter.lora_A.coding.of")
    model = Model(sequential(linear(13, 5, bias=False), linear(5, 4, bias=False), linear(4, 4, bias=False)))
    model.adapted(NAME, [5, 13], rank=3)
    model.adapted(second, [4, 5], rank=3, slices={"lora_A": NAME})
    model.adapted("2.weight", [4, 4], rank=3, slices={"lora_A": second})
    lacking = Model(sequential(linear(13, 5, bias=False), linear(5, 4, bias=False)))
    lacking.adapted(NAME, [5, 13], rank=0, vectors=("scale_in",))
    lacking.adapted(second, [4, 5], rank=2, drawn={"lora_A": ("sign1", 1.0)})
    lacking.parameters[second]["adapter"]["lora_A"]["coding"] = {"id": "slice", "of": NAME}
    yield fault("slice_of_none", "tied", of, "an owner whose adapter has no factors", lacking)
    chain = at("2.weight", "adapter.lora_A.coding.of")
    yield fault("slice_chain", "tied", chain, "an owner whose factor is a slice itself", model)
    model = Model(sequential(linear(13, 5, bias=False), linear(13, 4, bias=False)))
    model.adapted(NAME, [5, 13], rank=3, vectors=VERA)
    model.adapted(second, [4, 13], rank=3, vectors=VERA, slices={"lora_A": NAME})
    model.parameters[second]["rank"] = 4
    for part, taller in (("lora_B", tensor("float32", 4, 4)), ("lambda_d", tensor("float32", 4))):
        model.tensors[f"1.{part}"] = taller
        model.parameters[second]["adapter"][part]["sha256"] = taller.sha256
    yield fault("slice_rank", "shape", of, "an owner with a smaller rank", model)
    model = Model(sequential(linear(5, 13, bias=False), linear(13, 4, bias=False)))
    model.adapted(NAME, [13, 5], rank=3)
    model.adapted(second, [4, 13], rank=3, drawn={"lora_A": ("sign1", 1.0)})
    model.parameters[second]["adapter"]["lora_A"]["coding"] = {"id": "slice", "of": NAME}
    yield fault("slice_narrow", "shape", of, "an owner with fewer inputs", model)
    model = Model(sequential(linear(13, 4, bias=False), linear(4, 5, bias=False)))
    model.adapted(NAME, [4, 13], rank=3)
    model.adapted(second, [5, 4], rank=3, drawn={"lora_B": ("sign1", 1.0)})
    model.parameters[second]["adapter"]["lora_B"]["coding"] = {"id": "slice", "of": NAME}
    short = at(SECOND, "adapter.lora_B.coding.of")
    yield fault("slice_short", "shape", short, "an owner with fewer outputs", model)
    model = Model(sequential())
    model.adapted("e.weight", [2, 4, 4], rank=2, batch_dims=1)
    model.adapted("f.weight", [4, 4], rank=2, drawn={"lora_A": ("sign1", 1.0)})
    model.parameters["f.weight"]["adapter"]["lora_A"]["coding"] = {"id": "slice", "of": "e.weight"}
    batch = at("f.weight", "adapter.lora_A.coding.of")
    yield fault("slice_batch", "shape", batch, "an owner that is a batch of matrices", model)
    for name, faulty in (("slice", second), ("owner", NAME)):
        model = Model(sequential(linear(13, 5, bias=False), linear(5, 4, bias=False)))
        model.adapted(NAME, [5, 13], rank=3)
        model.adapted(second, [4, 5], rank=2, slices={"lora_A": NAME})
        model.parameters[faulty]["shape"] = []
        place, why = at(faulty, "shape"), "a weight without dimensions, and a slice"
        yield fault(f"slice_{name}_empty", "shape", place, why, model)


def vectors_and_ranks() -> Iterator[Invalid]:
    """Tensors of an adapter that belong together, and its rank."""
    adapter = at(NAME, "adapter")
    for name, why, rank, parts, lost in (
        ("lambda_alone", "one vector of two", 2, VERA, ["lambda_b"]),
        ("factor_alone", "one factor of two", 2, (), ["lora_B"]),
        ("no_factors", "a rank without factors", 2, ("scale_in",), ["lora_A", "lora_B"]),
        ("rank_zero_lambda", "vectors of factors that are missing", 0, ("scale_in", *VERA), []),
        ("rank_zero_empty", "an adapter without tensors", 0, (), ["beta"]),
    ):
        model = Model(sequential(linear(13, 5, bias=False)))
        model.adapted(NAME, [5, 13], rank=rank, vectors=parts)
        for part in lost:
            del model.parameters[NAME]["adapter"][part]
            del model.tensors[f"0.{part}"]
        yield fault(f"adapter_{name}", "field", adapter, why, model)
    model = Model(sequential(linear(13, 5, bias=False)))
    model.adapted(NAME, [5, 13], rank=0, vectors=("scale_out",), magnitude=True, beta=False)
    del model.parameters[NAME]["adapter"]["scale_out"]
    del model.tensors["0.scale_out"]
    yield fault("adapter_rank_zero_magnitude", "field", adapter, "a magnitude alone", model)
    model = Model(sequential(linear(13, 5, bias=False)))
    model.adapted(NAME, [5, 13], rank=4096, vectors=VERA, drawn={"lora_A": ("sign1", 1.0), "lora_B": ("sign1", 1.0)})
    model.parameters[NAME]["rank"] = 4097
    yield fault("adapter_rank_of_vectors", "shape", at(NAME, "rank"), "a rank over 4,096 on a smaller matrix", model)


def cases() -> Iterator[Invalid]:
    """All of them."""
    for group in (seeded_factors, slices, owners, vectors_and_ranks):
        yield from group()
