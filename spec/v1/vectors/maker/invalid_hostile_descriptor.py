"""Descriptors that someone made to do harm: values and ids, code, and more than any memory holds."""

from collections.abc import Iterator
from typing import Any

from . import invalid_descriptor, invalid_form
from .canonical import canonical
from .invalid_form import ADAPTED, CONSTANT, SEEDED, STORED, at
from .model import Model, linear, sequential
from .pack import Tensor
from .small import MOST_BYTES, Invalid, small


def descriptors() -> Iterator[Invalid]:
    """The descriptor's text, values and ids."""
    model = small()
    text = canonical(model.descriptor)

    def replaced(old: bytes, new: bytes) -> bytes:
        assert text.count(old) == 1, old
        return model.file(text.replace(old, new))

    for kind, name, why, made in (
        (
            "canonical",
            "version_twice",
            "two versions",
            replaced(b'"lottapack":"1.0"', b'"lottapack":"1.0","lottapack":"1.0"'),
        ),
        (
            "canonical",
            "config_twice",
            "an argument twice",
            replaced(b'"inplace":false', b'"inplace":false,"inplace":false'),
        ),
        ("canonical", "table_twice", "a table twice", replaced(b'"tables":{', b'"tables":{"own":{},')),
        ("canonical", "adapter_twice", "a beta twice", replaced(b'"adapter":{', b'"adapter":{"beta":{},')),
        (
            "canonical",
            "provenance_twice",
            "a tool twice",
            replaced(b'"vectors":"1.0"', b'"vectors":"1.0","vectors":"1.0"'),
        ),
        ("json", "infinity", "an alpha that is Infinity", replaced(b'"alpha":8.0', b'"alpha":Infinity')),
        ("json", "beyond_binary64", "an alpha beyond binary64", replaced(b'"alpha":8.0', b'"alpha":1e999')),
        ("json", "integer_range", "a rank of 2**53", replaced(b'"rank":1', b'"rank":9007199254740992')),
        ("json", "long_integer", "a rank of 5,000 digits", replaced(b'"rank":1', b'"rank":' + b"9" * 5000)),
        (
            "json",
            "very_deep",
            "nested 20,000 deep",
            model.file(text[:-1] + b',"x-":' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
        ),
        ("json", "lone_surrogate", "half a surrogate pair", replaced(b'"vectors":"1.0"', b'"vectors":"\\ud800"')),
        ("json", "two_values", "two objects", model.file(text + text)),
    ):
        yield invalid_form.fault(name, kind, "descriptor", why, made)
    p = "parameters"
    for kind, name, where, why, change in (
        ("field", "allow", "descriptor", "a pack that allows itself code", ("allow", ["os.system"])),
        ("field", "trust", "architecture", "a pack that trusts itself", ("architecture/trust_remote_code", True)),
        ("field", "max_bytes", "descriptor", "a pack that raises its reader's limit", ("max_bytes", 2**52)),
        (
            "field",
            "require_signature",
            "descriptor",
            "a pack that says how it is checked",
            ("require_signature", False),
        ),
        ("field", "seed_prefix", "rng.seed", "a seed that begins with 0x", ("rng/seed", "0x0000000000002a")),
        ("field", "seed_digits", "rng.seed", "a seed of other digits", ("rng/seed", "\u0660" * 16)),
        ("field", "seed_line_feed", "rng.seed", "a line feed after the seed", ("rng/seed", "000000000000002a\n")),
        ("field", "seed_float", "rng.seed", "a seed that is a float", ("rng/seed", 42.0)),
        ("field", "shape_float", at(STORED, "shape"), "a dimension that is a float", (f"{p}/{STORED}/shape", [3.0])),
        ("field", "shape_null", at(STORED, "shape"), "a shape that is null", (f"{p}/{STORED}/shape", None)),
        ("field", "scale_text", at(SEEDED, "scale"), "a scale that is a string", (f"{p}/{SEEDED}/scale", "0.5")),
        ("field", "role_number", at(STORED, "role"), "a role that is a number", (f"{p}/{STORED}/role", 1)),
        (
            "field",
            "sha256_line_feed",
            at(STORED, "sha256"),
            "a digest and a line feed",
            (f"{p}/{STORED}/sha256", "0" * 64 + "\n"),
        ),
        ("field", "code", at(STORED), "a parameter that brings code", (f"{p}/{STORED}/code", "import os")),
        ("version", "number", "lottapack", "a version that is a number", ("lottapack", 1.0)),
        ("version", "null", "lottapack", "a version that is null", ("lottapack", None)),
        ("version", "long", "lottapack", "a minor version of 20 digits", ("lottapack", "1." + "9" * 20)),
        ("version", "ten_digits", "lottapack", "a minor version of ten digits", ("lottapack", "1.1234567890")),
        ("id", "role_case", at(STORED, "role"), "a role in upper case", (f"{p}/{STORED}/role", "STORED")),
        ("id", "rng_case", "rng.id", "a generator in upper case", ("rng/id", "PHILOX4X32-10")),
        ("id", "dtype_code", at(STORED, "dtype"), "a dtype by its name in safetensors", (f"{p}/{STORED}/dtype", "F32")),
        (
            "shape",
            "many_dimensions",
            at(CONSTANT, "shape"),
            "10,000 dimensions",
            (f"{p}/{CONSTANT}/shape", [1] * 10_000),
        ),
        ("shape", "rank_huge", at(ADAPTED, "rank"), "a rank of 2**53 - 1", (f"{p}/{ADAPTED}/rank", 2**53 - 1)),
        ("shape", "rank_negative", at(ADAPTED, "rank"), "a rank below 0", (f"{p}/{ADAPTED}/rank", -1)),
        ("scale", "beyond_binary32", at(SEEDED, "scale"), "a scale beyond binary32", (f"{p}/{SEEDED}/scale", 1e300)),
        ("scale", "tiny", at(SEEDED, "scale"), "the least binary64 number as a scale", (f"{p}/{SEEDED}/scale", 5e-324)),
        ("scale", "minus_zero", at(SEEDED, "scale"), "a scale of -0.0", (f"{p}/{SEEDED}/scale", -0.0)),
        (
            "value",
            "line_feed",
            at(CONSTANT, "value"),
            "a line feed after the value",
            (f"{p}/{CONSTANT}/value", "00000000\n"),
        ),
        ("value", "upper_case", at(CONSTANT, "value"), "a value in upper case", (f"{p}/{CONSTANT}/value", "3F800000")),
    ):
        yield invalid_form.fault(name, kind, where, why, invalid_form.changed(invalid_form.put(*change)))
    model = small()
    for number in range(500):
        model.tied(f"t{number:03d}", f"t{(number + 1) % 500:03d}")
    yield invalid_form.fault("long_cycle", "tied", at("t000", "to"), "a cycle of 500 ties", model.file())


def code() -> Iterator[Invalid]:
    """Architectures that name code, or what a library would fetch."""
    for key, value in (
        ("attn_implementation", "kernels-community/flash-attn2"),
        ("experts_implementation", "deepgemm"),
        ("kernel_config", {"kernel_mapping": {"RMSNorm": "someone/kernels:RMSNorm"}}),
        ("__class__", "os.system"),
        ("_attn_implementation", "someone/kernels"),
    ):
        gpt2 = invalid_descriptor.gpt2_with({key: value})
        yield invalid_descriptor.of_architecture(f"key_{key}", f"architecture.config.{key}", f"the key {key}", gpt2)
    deep = invalid_descriptor.gpt2_with({"text_config": {"layers": [{"attn_implementation": "someone/kernels"}]}})
    where = "architecture.config.text_config.layers[0].attn_implementation"
    yield invalid_descriptor.of_architecture("deep_attn_implementation", where, "a kernel of the Hub, deep", deep)
    for name, value, what in (
        ("other", {"__float__": "1.5"}, "a float that JSON has"),
        ("beside", {"__float__": "NaN", "a": 1}, "a float with another key beside it"),
    ):
        gpt2 = invalid_descriptor.gpt2_with({"a": [value]})
        yield invalid_descriptor.of_architecture(f"float_{name}", "architecture.config.a[0].__float__", what, gpt2)
    root = invalid_descriptor.gpt2_with({}) | {"config": {"__float__": "Infinity"}}
    yield invalid_descriptor.of_architecture(
        "float_root", "architecture.config.__float__", "a float for a config", root
    )
    for name, leaf in (
        ("empty_class", ""),
        ("class_digits", "9Model"),
        ("class_unicode", "Mod\u00e8le"),
        ("class_space", "GPT2 Model"),
    ):
        made = invalid_descriptor.gpt2_with({}) | {"class": leaf}
        yield invalid_descriptor.of_architecture(name, "architecture.class", f"the class {leaf!r}", made)
    child = "architecture.config.children[0]"
    for name, leaf in (
        ("dunder_class", "__class__"),
        ("private_leaf", "_BatchNorm"),
        ("module_class", "modules.linear.Linear"),
        ("lambda_class", "lambda: 0"),
        ("functional", "functional"),
    ):
        tree = sequential((leaf, {}))
        yield invalid_descriptor.of_architecture(name, f"{child}.class", f"the class {leaf!r}", tree)
    faults: list[tuple[str, str, Any, str]] = [
        ("node_array", child, [], "a child that is an array"),
        ("node_more", child, {"name": "0", "class": "Tanh", "config": {}, "code": ""}, "a child that brings code"),
        ("children_object", "architecture.config", {}, "children that are an object"),
    ]
    for name, where, node, why in faults:
        tree = sequential(("Tanh", {}))
        tree["config"]["children"] = node if name == "children_object" else [node]
        yield invalid_descriptor.of_architecture(name, where, why, tree)


def limits() -> Iterator[Invalid]:
    """Kilobytes that declare more than any memory."""
    for name, why, shape, count in (
        ("seeded", "a generated weight of 8 PiB", [2**25, 2**26], 1),
        ("many", "200 generated weights of 1 TiB", [2**19, 2**19], 200),
    ):
        children = [linear(shape[1], shape[0], bias=False)] * count
        model = Model(sequential(*children))
        for number in range(count):
            entry = {"role": "seeded", "shape": shape, "dtype": "float32", "distribution": "sign1", "scale": 1.0}
            model.parameters[f"{number}.weight"] = {**entry, "fingerprint": "0" * 16}
        yield Invalid(f"limit_{name}", why, "limit", "limit", "parameters", model.file(), MOST_BYTES)
    model = Model(sequential(linear(2**50, 1, bias=False)))
    model.tensors["0.weight"] = Tensor("float32", [0, 2**50], b"")
    model.parameters["0.weight"] = {
        "role": "stored",
        "shape": [1, 2**50],
        "dtype": "float32",
        "group": "head",
        "trained": True,
        "sha256": "0" * 64,
    }
    yield Invalid(
        "agreement_mismatch_nothing",
        "4 PiB that are said to be stored, and no byte of them",
        "agreement",
        "mismatch",
        "0.weight",
        model.file(),
    )


def cases() -> Iterator[Invalid]:
    """All of them."""
    for group in (descriptors, code, limits):
        yield from group()
