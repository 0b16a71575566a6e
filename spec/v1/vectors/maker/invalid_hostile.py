"""Files that someone made to do harm: more faults of refusals.md, sections 1 to 3 and 5."""

import io
import pickle
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

from . import invalid_container, invalid_descriptor, invalid_form
from .canonical import canonical
from .invalid_container import changed, parts, put
from .invalid_form import ADAPTED, CONSTANT, SEEDED, STORED, at
from .model import Model, linear, sequential, tensor
from .pack import Tensor, assemble
from .small import Invalid, small

Header = dict[str, Any]
MOST = 2**53 - 1


def other_files() -> Iterator[Invalid]:
    """Files of other kinds under a pack's name, and lengths that no file has."""
    header, data = parts()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("archive/data.pkl"), pickle.dumps({"weight": [1.0]}, protocol=2))
    for name, why, made in (
        ("pickle", "a pickle", pickle.dumps({"weight": [1.0] * 8}, protocol=2)),
        ("zip", "a zip archive, as torch.save writes", archive.getvalue()),
        ("sign_bit", "a header of 2**63 bytes", assemble(header, data, length=2**63)),
        ("largest", "a header of 2**64 - 1 bytes", assemble(header, data, length=2**64 - 1)),
        ("wraps_to_all", "a header that with its prefix ends at the file's end, modulo 2**64", wrapping()),
    ):
        yield invalid_container.fault(name, "length", "length", why, made)


def wrapping() -> bytes:
    """A length to which the file's size is added, modulo 2**64, by a reader that seeks from the end."""
    header, data = parts()
    whole = assemble(header, data)
    return assemble(header, data, length=2**64 - len(whole) + len(whole) % 8)


def texts() -> Iterator[Invalid]:
    """The header's text."""
    header, data = parts()
    text = canonical(header)

    def replaced(old: bytes, new: bytes) -> bytes:
        assert text.count(old) == 1, old
        return assemble(text.replace(old, new), data)

    shape, bias = b'"0.bias":{"data_offsets":[4,16],"dtype":"F32","shape":[3]}', b'"0.bias":{"data_offsets":[4,16],%b}'
    for name, why, made in (
        ("nul_first", "a byte 0 before the first brace", assemble(b"\0" + text, data)),
        ("very_deep", "nested 20,000 deep", replaced(shape, bias % (b'"x":' + b"[" * 20_000 + b"]" * 20_000))),
        ("very_deep_open", "20,000 brackets that nobody closes", assemble(b'{"a":' + b"[" * 20_000, data)),
        ("long_integer", "an integer of 5,000 digits", replaced(shape, bias % (b'"x":' + b"9" * 5000))),
        ("minus_infinity", "-Infinity", replaced(shape, bias % b'"x":-Infinity')),
        ("two_values", "two objects", assemble(text + text, data)),
        ("overlong_utf8", "an overlong form of a slash", replaced(b'"F32","shape":[3]', b'"F\xc0\xaf","shape":[3]')),
        ("surrogate_utf8", "a surrogate in UTF-8", replaced(b'"F32","shape":[3]', b'"F\xed\xa0\x80","shape":[3]')),
    ):
        yield invalid_container.fault(name, "json", "header", why, made)
    digest = b'"lottapack.sha256":'
    for name, why, made in (
        ("inside_metadata", "a key twice in __metadata__", replaced(digest, digest + b'"","lottapack.sha256":')),
        (
            "inside_metadata_other",
            "the descriptor twice in __metadata__",
            replaced(b'"lottapack":', b'"lottapack":"{}","lottapack":'),
        ),
        ("escaped", "a tensor twice, once with an escape in its name", replaced(shape, shape + b',"0.\\u0062ias":{}')),
        (
            "other_range",
            "a tensor twice, with two ranges",
            replaced(shape, shape.replace(b"4,16", b"16,28") + b"," + shape),
        ),
        ("empty_key", "an empty key twice", replaced(shape, shape[:-1] + b',"":0,"":0}')),
    ):
        yield invalid_container.fault(name, "duplicate", "header", why, made)


def entries() -> Iterator[Invalid]:
    """What the header says of tensors."""
    yield invalid_container.fault(
        "null",
        "metadata",
        "header.__metadata__",
        "__metadata__ that is null",
        changed(lambda h: h.update(__metadata__=None)),
    )
    faults: list[tuple[str, str, Callable[[Header], object]]] = [
        ("null", "null for an entry", lambda h: h.update({"0.bias": None})),
        ("number_type", "an element type that is a number", put("0.bias", "dtype", 5)),
        ("null_type", "an element type that is null", put("0.bias", "dtype", None)),
        ("four_bits", "an element type of half a byte", put("0.bias", "dtype", "F4")),
    ]
    for name, why, change in faults:
        yield invalid_container.fault(name, "entry", "header.0.bias", why, changed(change))
    shapes: list[tuple[str, str, Any]] = [
        ("ten_thousand", "10,000 dimensions", [3] + [1] * 9_999),
        ("null", "a shape that is null", None),
        ("nested", "a shape in a shape", [[3]]),
        ("text", "a dimension that is a string", ["3"]),
    ]
    for name, why, shape in shapes:
        made = changed(put("0.bias", "shape", shape))
        yield invalid_container.fault(name, "shape", "header.0.bias", why, made)
    empty = [
        ("overflow_2_64", "no elements, and two dimensions of 2**64 - 1", [0, 2**64 - 1, 2**64 - 1]),
        ("wraps_to_zero", "2**64 elements, which is 0 modulo 2**64", [2**32, 2**32]),
    ]
    for name, why, shape in empty:
        made = changed(put("empty", "shape", shape), invalid_container.with_empty_tensor())
        yield invalid_container.fault(name, "shape", "header.empty", why, made)
    offsets: list[tuple[str, str, Any]] = [
        ("null", "offsets that are null", None),
        ("beyond_64", "offsets beyond 2**63", [2**63, 2**63 + 12]),
        ("boolean", "an offset that is a boolean", [True, 13]),
        ("objects", "offsets that are an object", {"0": 4, "1": 16}),
    ]
    for name, why, pair in offsets:
        made = changed(put("0.bias", "data_offsets", pair))
        yield invalid_container.fault(name, "offsets", "header.0.bias", why, made)


def ranges() -> Iterator[Invalid]:
    """Ten tensors on one range: a file whose tensors are more than it holds."""
    for filled in (False, True):
        model = small()
        for number in range(9):
            model.stored(f"9.{number}", tensor("float32", 3))
        header, data = parts(model)
        first = header["9.0"]["data_offsets"]
        for number in range(9):
            header[f"9.{number}"]["data_offsets"] = first
        kept = data if filled else data[: first[1]]
        where, why = ("header.9.1", ", and bytes of none") if filled else ("data", "")
        name = "nine_on_one_range_filled" if filled else "nine_on_one_range"
        yield invalid_container.fault(name, "offsets", where, f"nine tensors on one range{why}", assemble(header, kept))


def names() -> Iterator[Invalid]:
    """Names, of parameters that have a tensor in the file, and of a tensor alone."""
    for name, why, bad in (
        ("stored_empty", "an empty name", ""),
        ("stored_nul", "a name with U+0000", "a\0"),
        ("stored_line_feed", "a name with a line feed", "a\nb"),
        ("stored_path", "a name that is a path out of the folder", "../../a"),
        ("stored_absolute", "a name that is an absolute path", "/a"),
        ("stored_drive", "a name that is a path of Windows", "C:\\a"),
        ("stored_escape", "a name that would steer a terminal", "a\x1b[2J"),
    ):
        model = small()
        model.stored(bad, tensor("float32", 2))
        yield invalid_form.fault(name, "name", at(bad), why, model.file())
    model = small()
    for twin in ("gr\u00f6\u00dfe", "gro\u0308\u00dfe"):
        model.constant(twin, [1], "float32", "00000000")
    yield invalid_form.fault(
        "twins", "name", at("gro\u0308\u00dfe"), "two names that are one after Unicode normalisation", model.file()
    )
    for name, bad in (("empty_name", ""), ("path", "../../a"), ("line_feed", "a\nb"), ("long_name", "n" * 5000)):
        model = small()
        model.tensors[bad] = tensor("float32", 2)
        yield Invalid(
            f"agreement_unused_{name}",
            f"a tensor called {bad[:20]!r} that nothing names",
            "agreement",
            "unused",
            bad,
            model.file(),
        )


def descriptors() -> Iterator[Invalid]:
    """The descriptor's text, values and ids."""
    model = small()
    text = canonical(model.descriptor)

    def replaced(old: bytes, new: bytes) -> bytes:
        assert text.count(old) == 1, old
        return model.file(text.replace(old, new))

    for kind, name, why, made in (
        (
            "duplicate",
            "version",
            "two versions",
            replaced(b'"lottapack":"1.0"', b'"lottapack":"1.0","lottapack":"1.0"'),
        ),
        ("duplicate", "config", "an argument twice", replaced(b'"inplace":false', b'"inplace":false,"inplace":false')),
        ("duplicate", "table", "a table twice", replaced(b'"tables":{', b'"tables":{"own":{},')),
        ("duplicate", "adapter", "a beta twice", replaced(b'"adapter":{', b'"adapter":{"beta":{},')),
        ("duplicate", "provenance", "a tool twice", replaced(b'"vectors":"1.0"', b'"vectors":"1.0","vectors":"1.0"')),
        ("json", "infinity", "an alpha that is Infinity", replaced(b'"alpha":8.0', b'"alpha":Infinity')),
        ("json", "beyond_binary64", "an alpha beyond binary64", replaced(b'"alpha":8.0', b'"alpha":1e999')),
        ("json", "integer_range", "a rank of 2**64", replaced(b'"rank":1', b'"rank":18446744073709551616')),
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
        ("field", "max_bytes", "descriptor", "a pack that raises its reader's limit", ("max_bytes", 2**62)),
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
        ("field", "shape_float", at(STORED, "shape[0]"), "a dimension that is a float", (f"{p}/{STORED}/shape", [3.0])),
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
        (
            "shape",
            "overflow_2_64",
            at(CONSTANT, "shape"),
            "two dimensions of 2**64 - 1",
            (f"{p}/{CONSTANT}/shape", [0, 2**64 - 1, 2**64 - 1]),
        ),
        ("shape", "rank_huge", at(ADAPTED, "rank"), "a rank of 2**63 - 1", (f"{p}/{ADAPTED}/rank", 2**63 - 1)),
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
        yield Invalid(f"limit_{name}", why, "limit", "limit", "parameters", model.file())
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
    for group in (other_files, texts, entries, ranges, names, descriptors, code, limits):
        yield from group()
