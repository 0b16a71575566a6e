"""Faults in the form of a descriptor: refusals.md, section 2. Each file's ``lottapack.sha256`` is right."""

from collections.abc import Callable, Iterator
from typing import Any

from .canonical import canonical
from .model import Model, linear, sequential
from .small import Invalid, small

Descriptor = dict[str, Any]
Change = Callable[[Descriptor], object]
ADAPTED, STORED, SEEDED, CONSTANT = "0.weight", "0.bias", "2.weight", "2.bias"


def at(name: str, field: str = "") -> str:
    """The place of a parameter, or of one of its fields."""
    return f"parameters{canonical([name]).decode()}" + (f".{field}" if field else "")


def fault(name: str, kind: str, where: str, why: str, data: bytes) -> Invalid:
    """A fault of the descriptor."""
    return Invalid(f"descriptor_{kind}_{name}", why, "descriptor", kind, where, data)


def changed(change: Change) -> bytes:
    """The small pack with a changed descriptor."""
    model = small()
    change(model.descriptor)
    return model.file()


def put(path: str, value: Any) -> Change:
    """A change of one field; the steps of ``path`` are divided by ``/``."""
    *steps, last = path.split("/")

    def change(descriptor: Descriptor) -> None:
        for step in steps:
            descriptor = descriptor[step]
        descriptor[last] = value

    return change


def drop(path: str) -> Change:
    """A change that takes one field away."""
    *steps, last = path.split("/")

    def change(descriptor: Descriptor) -> None:
        for step in steps:
            descriptor = descriptor[step]
        del descriptor[last]

    return change


def texts() -> Iterator[Invalid]:
    """The descriptor's text."""
    model = small()
    text = canonical(model.descriptor)

    def replaced(old: bytes, new: bytes) -> bytes:
        assert text.count(old) == 1, old
        return model.file(text.replace(old, new))

    provenance = b'"provenance":{"vectors":"1.0"}'
    for kind, name, why, made in (
        ("json", "cut_off", "no JSON: the last brace is missing", model.file(text[:-1])),
        ("json", "empty", "no JSON: empty", model.file(b"")),
        ("json", "nan", "an alpha that is NaN", replaced(b'"alpha":8.0', b'"alpha":NaN')),
        (
            "json",
            "too_deep",
            "nested over 64 deep",
            model.file(text[:-1] + b',"x-deep":' + b"[" * 64 + b"]" * 64 + b"}"),
        ),
        ("canonical", "seed_twice", "two seeds", replaced(b'"seed":', b'"seed":"0000000000000000","seed":')),
        ("canonical", "parameter_twice", "a parameter twice", replaced(b'"2.bias":', b'"2.bias":{},"2.bias":')),
        ("canonical", "space", "a space between tokens", replaced(b'"seed":', b'"seed": ')),
        ("canonical", "line_feed", "a line feed at the end", model.file(text + b"\n")),
        (
            "canonical",
            "key_order",
            "keys that are not sorted",
            model.file(b"{" + provenance + b"," + text[1:].replace(b"," + provenance, b"")),
        ),
        ("canonical", "float", "a float with a digit too many", replaced(b'"alpha":8.0', b'"alpha":8.00')),
        *(
            ("canonical", name, why, replaced(b'"alpha":8.0', b'"alpha":' + written))
            for name, why, written in (
                ("exponent_digit", "an exponent of one digit", b"9.5367431640625e-7"),
                ("exponent_sign", "an exponent without its sign", b"1e16"),
                ("exponent_small", "a number that needs an exponent, without one", b"0.00001"),
                ("exponent_large", "a number that needs an exponent, with all digits", b"15000000000000000000.0"),
                ("even_digit", "the odd one of two equally near shortest decimals", b"0.9297256469726563"),
            )
        ),
        (
            "canonical",
            "exponent",
            "a float with an exponent that it does not need",
            replaced(b'"alpha":8.0', b'"alpha":8e0'),
        ),
        ("canonical", "escape", "an escape that need not be", replaced(b'"0.bias":', b'"0.\\u0062ias":')),
    ):
        yield fault(name, kind, "descriptor", why, made)
    yield fault("array", "field", "descriptor", "an array", model.file(b"[]"))


def fields() -> Iterator[Invalid]:
    """Unknown and missing fields, and values of another type or form."""
    p = "parameters"
    adapter = f"{p}/{ADAPTED}/adapter"
    for name, where, why, change in (
        ("unknown_top", "descriptor", "an unknown field at the top level", put("author", "me")),
        ("unknown_architecture", "architecture", "an unknown field", put("architecture/code", "")),
        ("unknown_rng", "rng", "an unknown field", put("rng/offset", 0)),
        ("unknown_table", 'rng.tables["own"]', "an unknown field", put("rng/tables/own/mean", 0.0)),
        ("unknown_parameter", at(ADAPTED), "an unknown field", put(f"{p}/{ADAPTED}/dropout", 0.0)),
        ("unknown_adapter", at(ADAPTED, "adapter"), "an unknown tensor of an adapter", put(f"{adapter}/lora_C", {})),
        ("unknown_adapter_entry", at(ADAPTED, "adapter.beta"), "an unknown field", put(f"{adapter}/beta/shape", [1])),
        ("other_role", at(SEEDED), "a field of another role", put(f"{p}/{SEEDED}/rank", 1)),
        ("upper_case_x", "descriptor", "only x- in lower case marks a field that may be ignored", put("X-note", 1)),
        ("missing_top", "descriptor", "no provenance", drop("provenance")),
        ("missing_architecture", "architecture", "no class", drop("architecture/class")),
        ("missing_seed", "rng", "no seed", drop("rng/seed")),
        ("missing_tables", "rng", "no tables", drop("rng/tables")),
        ("missing_table", 'rng.tables["own"]', "no sha256", drop("rng/tables/own/sha256")),
        ("missing_role", at(STORED, "role"), "no role", drop(f"{p}/{STORED}/role")),
        ("missing_scale", at(SEEDED), "no scale", drop(f"{p}/{SEEDED}/scale")),
        ("missing_sha256", at(STORED), "no sha256", drop(f"{p}/{STORED}/sha256")),
        ("missing_lora_b", at(ADAPTED, "adapter"), "no lora_B", drop(f"{adapter}/lora_B")),
        ("parameters_array", "parameters", "an array", put(p, [])),
        ("parameter_null", at(STORED), "null for a parameter", put(f"{p}/{STORED}", None)),
        ("config_string", "architecture.config", "a config that is no object", put("architecture/config", "")),
        ("provenance_number", 'provenance["vectors"]', "a version that is no string", put("provenance/vectors", 1)),
        ("seed_number", "rng.seed", "a seed that is a number", put("rng/seed", 42)),
        ("seed_short", "rng.seed", "a seed of 15 digits", put("rng/seed", "00000000000002a")),
        ("seed_upper_case", "rng.seed", "a seed in upper case", put("rng/seed", "000000000000002A")),
        ("seed_negative", "rng.seed", "a seed with a sign", put("rng/seed", "-00000000000002a")),
        ("bits", 'rng.tables["own"].bits', "a table of 3 bits", put("rng/tables/own/bits", 3)),
        ("bits_float", 'rng.tables["own"].bits', "a float where an integer is due", put("rng/tables/own/bits", 2.0)),
        ("scale_integer", at(SEEDED, "scale"), "an integer where a float is due", put(f"{p}/{SEEDED}/scale", 1)),
        ("alpha_integer", at(ADAPTED, "alpha"), "an integer where a float is due", put(f"{p}/{ADAPTED}/alpha", 8)),
        ("rank_float", at(ADAPTED, "rank"), "a float where an integer is due", put(f"{p}/{ADAPTED}/rank", 1.0)),
        ("rank_boolean", at(ADAPTED, "rank"), "a boolean where an integer is due", put(f"{p}/{ADAPTED}/rank", True)),
        ("trained_integer", at(STORED, "trained"), "an integer for a boolean", put(f"{p}/{STORED}/trained", 1)),
        ("shape_string", at(CONSTANT, "shape"), "a shape that is a string", put(f"{p}/{CONSTANT}/shape", "2")),
        (
            "fingerprint",
            at(SEEDED, "fingerprint"),
            "a fingerprint of 15 digits",
            put(f"{p}/{SEEDED}/fingerprint", "0" * 15),
        ),
        ("sha256", at(STORED, "sha256"), "a digest in upper case", put(f"{p}/{STORED}/sha256", "A" * 64)),
        (
            "beta_sha256",
            at(ADAPTED, "adapter.beta.sha256"),
            "a digest of 63 digits",
            put(f"{adapter}/beta/sha256", "0" * 63),
        ),
        ("beta_null", at(ADAPTED, "adapter.beta"), "null for a beta that is fixed", put(f"{adapter}/beta", None)),
        ("later_minor", "descriptor", "a field of a later minor version", later_minor),
    ):
        yield fault(name, "field", where, why, changed(change))


def later_minor(descriptor: Descriptor) -> None:
    """What a newer writer may write, and this version cannot know."""
    descriptor.update({"lottapack": "1.17", "sparsity": {}})


def versions_and_ids() -> Iterator[Invalid]:
    """Versions, ids, families."""
    p = "parameters"
    for name, text in (
        ("major", "2.0"),
        ("major_zero", "0.9"),
        ("no_minor", "1"),
        ("leading_zero", "01.0"),
        ("minor_leading_zero", "1.00"),
        ("three_parts", "1.0.0"),
        ("sign", "1.-1"),
        ("line_feed", "1.0\n"),
        ("other_digits", "1.٠"),
    ):
        yield fault(name, "version", "lottapack", f"the version {text!r}", changed(put("lottapack", text)))
    for name, where, why, change in (
        ("rng", "rng.id", "another generator", put("rng/id", "philox4x64-10")),
        (
            "distribution",
            at(SEEDED, "distribution"),
            "a table that is not there",
            put(f"{p}/{SEEDED}/distribution", "laplace4"),
        ),
        ("scaling", at(ADAPTED, "scaling"), "another scaling rule", put(f"{p}/{ADAPTED}/scaling", "none")),
        ("role", at(STORED, "role"), "another role", put(f"{p}/{STORED}/role", "frozen")),
        ("dtype", at(CONSTANT, "dtype"), "a dtype that the format lacks", put(f"{p}/{CONSTANT}/dtype", "complex64")),
        (
            "generated_dtype",
            at(SEEDED, "dtype"),
            "a dtype that is not generated",
            put(f"{p}/{SEEDED}/dtype", "float64"),
        ),
        (
            "adapted_dtype",
            at(ADAPTED, "dtype"),
            "a dtype that is not generated, with a built-in table",
            put(f"{p}/{ADAPTED}/dtype", "float64"),
        ),
        (
            "adapter_dtype",
            at(ADAPTED, "adapter.beta.dtype"),
            "a dtype that no adapter has",
            put(f"{p}/{ADAPTED}/adapter/beta/dtype", "int32"),
        ),
        ("group", at(STORED, "group"), "another group", put(f"{p}/{STORED}/group", "weights")),
    ):
        yield fault(name, "id", where, why, changed(change))
    for name, table_id in (
        ("builtin_table", "sign1"),
        ("table_upper_case", "Own"),
        ("table_long", "o" * 65),
        ("table_empty", ""),
        ("table_constructor", "constructor"),
    ):
        model = small()
        model.table(table_id, 1, [0xBF800000, 0x3F800000])
        where = f"rng.tables{canonical([table_id]).decode()}"
        yield fault(name, "id", where, f"the id {table_id!r} for a table of the pack's own", model.file())
    for name, family in (("unknown", "keras"), ("capital", "Torch.nn"), ("empty", "")):
        made = changed(put("architecture/family", family))
        yield fault(name, "family", "architecture.family", f"the family {family!r}", made)


def of_torch_cpu() -> Iterator[Invalid]:
    """What does not go with the RNG id torch-cpu, or only with it: torch_cpu.md, section 1."""

    def drawn_by_torch(change: Change) -> bytes:
        model = Model(sequential(linear(4, 3, bias=False)))
        model.descriptor["rng"] |= {"id": "torch-cpu", "torch": "2.13.0", "capability": "AVX2"}
        entry = {"role": "seeded", "shape": [3, 4], "dtype": "float32", "distribution": "constructor", "scale": 1.0}
        model.parameters[ADAPTED] = {**entry, "fingerprint": "0" * 16}
        change(model.descriptor)
        return model.file()

    weight = f"parameters/{ADAPTED}"
    for name, kind, where, why, change in (
        ("torch_missing", "field", "rng", "no version of torch", drop("rng/torch")),
        ("capability_missing", "field", "rng", "no capability", drop("rng/capability")),
        ("torch_number", "field", "rng.torch", "a version that is a number", put("rng/torch", 2.13)),
        ("torch_space", "field", "rng.torch", "a version with a space", put("rng/torch", "2.13 0")),
        ("capability_empty", "field", "rng.capability", "an empty capability", put("rng/capability", "")),
        (
            "torch_tables",
            "field",
            "rng.tables",
            "a table beside torch-cpu",
            put("rng/tables", {"own": {"bits": 1, "sha256": "0" * 64}}),
        ),
        (
            "torch_normal16",
            "id",
            at(ADAPTED, "distribution"),
            "a table's id with torch-cpu",
            put(f"{weight}/distribution", "normal16"),
        ),
        ("torch_scale", "scale", at(ADAPTED, "scale"), "a scale other than 1.0", put(f"{weight}/scale", 0.5)),
    ):
        yield fault(name, kind, where, why, drawn_by_torch(change))
    weight = f"parameters/{SEEDED}"
    for name, kind, where, change in (
        ("torch_of_philox", "field", "rng", put("rng/torch", "2.13.0")),
        ("capability_of_philox", "field", "rng", put("rng/capability", "AVX2")),
        ("constructor_of_philox", "id", at(SEEDED, "distribution"), put(f"{weight}/distribution", "constructor")),
    ):
        yield fault(name, kind, where, "what only torch-cpu has, with another generator", changed(change))


def cases() -> Iterator[Invalid]:
    """All of them."""
    for group in (texts, fields, versions_and_ids, of_torch_cpu):
        yield from group()
