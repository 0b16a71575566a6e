"""Faults of agreement, contents and size: refusals.md, sections 3 to 5."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from .codings import int8_tensor, planes, scales_tensor, stream
from .model import Model, sequential, tensor
from .small import MOST_BYTES, Invalid, small

OWN = "lottapack.tables.own"


def disagreement(name: str, kind: str, where: str, why: str, model: Model) -> Invalid:
    """A fault of agreement."""
    return Invalid(f"agreement_{kind}_{name}".replace("-", "_"), why, "agreement", kind, where, model.file())


def missing_and_unused() -> Iterator[Invalid]:
    """Tensors too few, too many, or called for twice."""
    for name, lost in (("stored", "0.bias"), ("lora_a", "0.lora_A"), ("beta", "0.beta"), ("table", OWN)):
        model = small()
        del model.tensors[lost]
        yield disagreement(name, "missing", lost, f"{lost} is not in the file", model)
    for name, extra, why in (
        ("tensor", "1.weight", "a tensor of no parameter"),
        ("seeded", "2.weight", "the tensor of a parameter that is generated"),
        ("constant", "2.bias", "the tensor of a parameter that is constant"),
        ("adapter", "2.lora_A", "the adapter of a parameter that has none"),
        ("table", "lottapack.tables.other", "a table that rng.tables does not name"),
    ):
        model = small()
        model.tensors[extra] = tensor("float32", 2)
        yield disagreement(name, "unused", extra, why, model)
    model = small()
    del model.parameters["0.weight"]["adapter"]["beta"]
    yield disagreement("beta", "unused", "0.beta", "a beta where it is fixed at 1", model)
    model = small()
    model.adapted("0.weight", [3, 4], magnitude=True)
    del model.parameters["0.weight"]["adapter"]["magnitude"]
    yield disagreement("magnitude", "unused", "0.magnitude", "a magnitude that the descriptor lacks", model)
    model = small()
    model.stored("0.lora_A", model.tensors["0.lora_A"])
    yield disagreement("stored", "two-roles", "0.lora_A", "an adapter's tensor that is a parameter too", model)
    model = small()
    model.stored(OWN, model.tensors[OWN])
    yield disagreement("table", "two-roles", OWN, "a table that is a parameter too", model)


def names_of_two_meanings() -> Iterator[Invalid]:
    """Parameters that lie in the file under another name, or not at all, and whose own name means something else."""

    def fault(name: str, where: str, why: str, model: Model) -> Invalid:
        return disagreement(name, "two-roles", where, why, model)

    for part, shape in (("beta", [4]), ("lora_A", [1, 4]), ("lora_B", [3, 1])):
        model = small()
        model.coded(f"0.{part}", "float32", shape, "float16", tensor("float16", *shape))
        model.tensors[f"0.{part}"] = small().tensors[f"0.{part}"]
        yield fault(f"coded_{part}".lower(), f"0.{part}", "a coded parameter called as a tensor of an adapter", model)
    others: dict[str, Callable[[Model], None]] = {
        "constant": lambda model: model.constant("0.beta", [1], "float32", "3f800000"),
        "seeded": lambda model: model.seeded("0.beta", [1]),
        "tied": lambda model: model.tied("0.beta", "2.bias"),
    }
    for role, add in others.items():
        model = small()
        add(model)
        yield fault(f"{role}_beta", "0.beta", f"a {role} parameter called as a tensor of an adapter", model)
    model = small()
    model.adapted("0.weight", [3, 4], magnitude=True)
    model.constant("0.magnitude", [3], "float32", "3f800000")
    yield fault("constant_magnitude", "0.magnitude", "a constant parameter called as a magnitude", model)
    model = small()
    model.stored("0.magnitude", tensor("float32", 3))
    yield fault("no_magnitude", "0.magnitude", "a parameter called as a magnitude, which this adapter lacks", model)
    for name, second in (("coded_codes", "float64"), ("stream_codes", "uint8")):
        model = small()
        for key, dtype in (("w.codes", second), ("w", "uint8")):
            made = tensor(dtype, 4)
            model.coded(key, dtype, [4], "planes-zlib", stream(planes(made.data, len(made.data) // 4)))
        yield fault(name, "w.codes", "a coded parameter called as the codes of another", model)
    model = small()
    for key in ("w.scales", "w"):
        model.coded(key, "float32", [2], "int8-block64", int8_tensor([1, 2]), scales_tensor([0x2C00]))
    yield fault("coded_scales", "w.scales", "a coded parameter called as the scales of another", model)
    model = small()
    model.coded(OWN, "float32", [4], "float16", tensor("float16", 4))
    model.tensors[OWN] = small().tensors[OWN]
    yield fault("coded_table", OWN, "a coded parameter called as a table", model)
    for name, reserved in (
        ("metadata", "__metadata__"),
        ("lottapack", "lottapack"),
        ("namespace", "lottapack.weight"),
        ("absent_table", "lottapack.tables.other"),
        ("recipe", "lottapack_recipe"),
        ("inner_recipe", "0.lottapack_recipe"),
    ):
        model = small()
        model.constant(reserved, [1], "uint8", "01")
        yield fault(f"reserved_{name}", reserved, "a parameter with a name that the format keeps for itself", model)
    model = small()
    model.parameters["__metadata__"] = small().parameters["0.bias"]
    yield fault("reserved_metadata_stored", "__metadata__", "a stored parameter called as what is no tensor", model)
    model = small()
    model.stored("lottapack_recipe", tensor("uint8", 4))
    yield fault("reserved_stored", "lottapack_recipe", "the same, as a tensor of the file", model)


def mismatches() -> Iterator[Invalid]:
    """Shapes and dtypes other than the descriptor's."""
    for name, where, dtype, shape in (
        ("shape", "0.bias", "float32", [3, 1]),
        ("dtype", "0.bias", "int32", [3]),
        ("lora_a", "0.lora_A", "float32", [4, 1]),
        ("lora_b", "0.lora_B", "float32", [1, 3]),
        ("beta", "0.beta", "float32", []),
        ("table_shape", OWN, "float32", [2, 2]),
        ("table_dtype", OWN, "int32", [4]),
    ):
        model = small()
        model.tensors[where] = replace(model.tensors[where], dtype=dtype, shape=shape)
        yield disagreement(name, "mismatch", where, f"the file has {dtype} {shape}", model)
    model = small()
    model.adapted("0.weight", [3, 4], magnitude=True)
    model.tensors["0.magnitude"] = tensor("float32", 4)
    yield disagreement("magnitude", "mismatch", "0.magnitude", "a magnitude for each input", model)
    model = small()
    model.table("own", 1, [0xBF800000] * 4)
    yield disagreement("table_bits", "mismatch", OWN, "a table of 1 bit with four entries", model)


def tables() -> Iterator[Invalid]:
    """Tables of the pack's own whose entries no table may have; no parameter uses them."""
    for name, word in (
        ("nan", 0x7FC00000),
        ("infinity", 0xFF800000),
        ("subnormal", 0x00000001),
        ("largest_subnormal", 0x807FFFFF),
        ("minus_zero", 0x80000000),
    ):
        model = small()
        model.table("bad", 2, [0xBF800000, word, 0x3F000000, 0x3F800000])
        yield disagreement(name, "table", "lottapack.tables.bad", f"an entry with the bits {word:08x}", model)


def contents() -> Iterator[Invalid]:
    """Bytes that are not those that the descriptor records."""

    def fault(name: str, kind: str, where: str, why: str, data: bytes) -> Invalid:
        return Invalid(f"contents_{kind}_{name}", why, "contents", kind, where, data)

    for name, where in (("stored", "0.bias"), ("lora_b", "0.lora_B"), ("beta", "0.beta"), ("table", OWN)):
        model = small()
        old = model.tensors[where]
        model.tensors[where] = replace(old, data=bytes([old.data[0] ^ 1]) + old.data[1:])
        yield fault(name, "sha256", where, "one bit of the tensor is another", model.file())
    for name, where in (("adapted", "0.weight"), ("seeded", "2.weight")):
        model = small()
        entry = model.parameters[where]
        entry["fingerprint"] = f"{int(entry['fingerprint'], 16) ^ 1:016x}"
        yield fault(name, "fingerprint", where, "one bit of the fingerprint is another", model.file())
    model = small()
    model.stored("mask", replace(tensor("bool", 4), data=bytes([0, 1, 2, 1])), "buffer")
    yield fault("two", "bool", "mask", "a bool whose byte is 2", model.file())


def limits() -> Iterator[Invalid]:
    """A model over any memory: four pebibytes in half a kilobyte of file."""
    model = Model(sequential(("PReLU", {"num_parameters": 2**50, "init": 0.25})))
    model.constant("0.weight", [2**50], "float32", "3e800000")
    why = "a constant of 4 PiB; the pack is right, and refused by a reader that allows less"
    yield Invalid("limit_constant", why, "limit", "limit", "parameters", model.file(), MOST_BYTES)
    model = Model(sequential())
    model.constant("w", [1, 1], "float32", "3f800000")
    model.parameters["w"] = {
        "role": "seeded",
        "shape": [1, 2**29 + 1],
        "dtype": "float32",
        "distribution": "sign1",
        "scale": 1.0,
        "fingerprint": "0" * 16,
    }
    why = "a side that only hadamard cannot have; a model of 2 GiB where 1 GiB is allowed"
    yield Invalid("limit_long_side", why, "limit", "limit", "parameters", model.file(), 2**30)
    model = small()
    declared = (12 + 3 + 6 + 2) * 4
    why = "a model of 92 bytes, where 91 are allowed"
    yield Invalid("limit_by_one", why, "limit", "limit", "parameters", model.file(), declared - 1)


def two_faults() -> Iterator[Invalid]:
    """A scale too large for the pack's own table, and another fault: container.md, section 6, says which is first."""

    def made() -> Model:
        model = small()
        model.parameters["2.weight"]["scale"] = 1.5 * 2.0**127
        return model

    def damaged(name: str) -> Model:
        model = made()
        old = model.tensors[name]
        model.tensors[name] = replace(old, data=bytes([old.data[0] ^ 1]) + old.data[1:])
        return model

    model = made()
    del model.tensors["0.bias"]
    why = "a tensor that is missing, before a scale and its own table are looked at"
    yield Invalid("agreement_missing_and_scale", why, "agreement", "missing", "0.bias", model.file())
    why = "a table with another SHA-256, and a scale that its entries would refuse"
    yield Invalid("contents_sha256_and_scale", why, "contents", "sha256", OWN, damaged(OWN).file())
    model = made()
    model.table("own", 2, [0xBFC00000, 0x7FC00000, 0x3E800000, 0x3FC00000])
    why = "a table with an entry that is NaN, and a scale that its other entries refuse"
    yield Invalid("agreement_table_and_scale", why, "agreement", "table", OWN, model.file())
    for name, of, allowed in (("contents", damaged("0.bias"), None), ("limit", made(), 0)):
        why = f"a scale that its own table refuses, before a fault of the section {name}"
        place = 'parameters["2.weight"].scale'
        yield Invalid(f"descriptor_scale_and_{name}", why, "descriptor", "scale", place, of.file(), allowed)


def cases() -> Iterator[Invalid]:
    """All of them."""
    for group in (missing_and_unused, names_of_two_meanings, mismatches, tables, contents, two_faults, limits):
        yield from group()
