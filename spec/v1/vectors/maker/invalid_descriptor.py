"""Faults in the meaning of a descriptor: refusals.md, section 2. Each file's ``lottapack.sha256`` is right."""

from collections.abc import Iterator
from typing import Any

from .invalid_form import ADAPTED, CONSTANT, at, changed, fault, put
from .model import Model, linear, sequential, tensor
from .small import Invalid, small


def names() -> Iterator[Invalid]:
    """Names of parameters."""
    for name, why, bad in (
        ("empty", "an empty name", ""),
        ("too_long", "a name of 1,025 bytes", "n" * 1025),
        ("too_many_bytes", "a name of 1,024 characters and 2,048 bytes", "é" * 1024),
        ("control", "a name with U+0000", "a\0b"),
        ("delete", "a name with U+007F", "a\x7fb"),
        ("c1_control", "a name with U+0085", "a\x85b"),
        ("slash", "a name with a slash", "../a"),
        ("backslash", "a name with a backslash", "..\\a"),
    ):
        model = small()
        model.constant(bad, [1], "float32", "00000000")
        where = at(bad) if len(bad) <= 100 else at(bad[:97] + "...")
        yield fault(name, "name", where, why, model.file())


def long_names() -> Iterator[Invalid]:
    """Faults at parameters whose names are as long as a place shows them, and one longer."""
    for count in (100, 101):
        name = "n" * count
        model = small()
        model.parameters[name] = {"role": "frozen"}
        where = at(name if count == 100 else name[:97] + "...", "role")
        yield fault(f"role_of_{count}", "id", where, f"another role of a name of {count} characters", model.file())


def of_one_form() -> Iterator[Invalid]:
    """Faults of an entry that is like another one."""
    for field, digits in (("sha256", "0123456789ABCDEF" * 4), ("fingerprint", "0123456789ABCDEF")):
        model = Model(sequential())
        for name in ("a", "b"):
            if field == "sha256":
                model.stored(name, tensor("float32", 2))
            else:
                model.seeded(name, [2, 2])
        model.parameters["b"][field] = digits
        why = f"a {field} in upper case, in an entry that is otherwise like the one before it"
        yield fault(f"{field}_of_one_form", "field", at("b", field), why, model.file())


def shapes() -> Iterator[Invalid]:
    """Shapes and ranks."""
    most = 2**53 - 1
    for name, why, sizes in (
        ("nine_dimensions", "nine dimensions", [1] * 9),
        ("negative", "a negative dimension", [-2]),
        ("minus_one", "a dimension of -1", [-1]),
        ("overflow", "a size that overflows", [2**31, 2**30]),
        ("overflow_with_zero", "a size that overflows without the zero", [0, most, most]),
    ):
        yield fault(name, "shape", at(CONSTANT, "shape"), why, changed(put(f"parameters/{CONSTANT}/shape", sizes)))
    model = Model(sequential())
    model.constant("w", [1, 1], "float32", "3f800000")
    model.parameters["w"] = {
        "role": "seeded",
        "shape": [1, 2**29 + 1],
        "dtype": "float32",
        "distribution": "hadamard",
        "scale": 1.0,
        "fingerprint": "0" * 16,
    }
    yield fault("hadamard_too_long", "shape", at("w", "shape"), "hadamard with a side over 2**29", model.file())
    rank, shape, batch = (at("w", field) for field in ("rank", "shape", "batch_dims"))
    adapted: list[tuple[str, str, str, list[int], dict[str, Any]]] = [
        ("rank_over", rank, "a rank over the smaller side", [3, 4], {"rank": 4}),
        ("rank_over_kernel", rank, "a rank over the channels of a convolution", [2, 3, 3, 3], {"rank": 3}),
        ("one_dimension", shape, "an adapter on a vector", [4], {}),
        ("adapted_zero", shape, "an adapter on a weight without elements", [3, 0], {}),
        (
            "rank_over_in",
            rank,
            "a rank over the inputs, which come first",
            [2, 3, 3],
            {"rank": 3, "fan_in_fan_out": True},
        ),
        ("rank_over_batch", rank, "a rank over the sides of each matrix", [9, 2, 3], {"rank": 3, "batch_dims": 1}),
        ("batch_of_vectors", batch, "batch_dims that leaves a vector", [2, 3], {"batch_dims": 1}),
        ("batch_of_numbers", batch, "batch_dims that leaves nothing", [2, 3, 4], {"batch_dims": 3}),
        ("batch_negative", batch, "batch_dims below 0", [2, 3, 4], {"batch_dims": -1}),
    ]
    for name, where, why, sizes, options in adapted:
        model = Model(sequential())
        model.adapted("w", sizes, **options)
        yield fault(name, "shape", where, why, model.file())
    model = Model(sequential())
    model.adapted("w", [3, 4])
    model.parameters["w"]["rank"] = 0
    for part, shape in (("lora_A", [0, 4]), ("lora_B", [3, 0])):
        model.tensors[f"w_{part}"] = empty = tensor("float32", *shape)
        model.parameters["w"]["adapter"][part]["sha256"] = empty.sha256
    yield fault("rank_zero", "shape", rank, "a rank of 0 with factors", model.file())
    model = Model(sequential())
    model.adapted("w", [3, 4])
    model.parameters["w"]["batch_dims"] = 0
    yield fault("batch_zero", "shape", batch, "batch_dims of 0, where the field is left out", model.file())
    shared = at("w", "shared_factor")
    for name, kind, why, shape_, options in (
        ("shared_alone", "shape", "shared_factor without batch_dims", [3, 4], {}),
        ("shared_beta", "id", "shared_factor that names no factor", [2, 3, 4], {"batch_dims": 1}),
    ):
        model = Model(sequential())
        model.adapted("w", shape_, **options)
        model.parameters["w"]["shared_factor"] = "lora_A" if kind == "shape" else "beta"
        yield fault(name, kind, shared, why, model.file())


def scales() -> Iterator[Invalid]:
    """Scale and alpha."""
    faults: list[tuple[str, str, dict[str, Any]]] = [
        ("not_binary32", "a scale that is no binary32 number", {"scale": 0.1}),
        ("zero", "a scale of 0", {"scale": 0.0}),
        ("negative", "a scale below 0", {"scale": -1.0}),
        ("subnormal", "a scale that is subnormal", {"scale": 2.0**-130, "distribution": "sign1"}),
        ("subnormal_product", "a product that is subnormal", {"scale": 2.0**-112}),
        ("infinite_product", "a product beyond binary32", {"scale": 2.0**127}),
        ("infinite_in_float16", "a product beyond float16", {"scale": 2.0**14, "dtype": "float16"}),
        (
            "float16_tie",
            "a product of 65520, which float16 rounds up",
            {"scale": 65520.0, "dtype": "float16", "distribution": "sign1"},
        ),
        (
            "infinite_in_bfloat16",
            "a product that bfloat16 rounds up to infinity",
            {"scale": (2 - 2.0**-23) * 2.0**127, "dtype": "bfloat16", "distribution": "sign1"},
        ),
    ]
    for name, why, options in faults:
        model = Model(sequential(linear(2, 2, bias=False)))
        model.seeded("0.weight", [2, 2], **options)
        yield fault(name, "scale", at("0.weight", "scale"), why, model.file())
    model = small()
    model.seeded("2.weight", [2, 3], distribution="own", scale=2.0**-125)
    yield fault(
        "own_table",
        "scale",
        at("2.weight", "scale"),
        "a product that is subnormal, with a table of the pack's own",
        model.file(),
    )
    for name, alpha in (("alpha_zero", 0.0), ("alpha_negative", -8.0)):
        change = put(f"parameters/{ADAPTED}/alpha", alpha)
        yield fault(name, "scale", at(ADAPTED, "alpha"), f"alpha is {alpha}", changed(change))


def values_and_ties() -> Iterator[Invalid]:
    """Constants, and entries that share storage."""
    for name, why, dtype, value in (
        ("short", "four digits for float32", "float32", "3f80"),
        ("long", "eight digits for bfloat16", "bfloat16", "3f800000"),
        ("empty", "no digits", "int8", ""),
        ("bool", "a bool that is neither 00 nor 01", "bool", "02"),
    ):
        model = small()
        model.parameters[CONSTANT] |= {"dtype": dtype, "value": value}
        yield fault(name, "value", at(CONSTANT, "value"), why, model.file())
    rings: list[tuple[str, str, dict[str, str]]] = [
        ("missing", "tied to a name that is not there", {"a": "b"}),
        ("to_adapter", "tied to a tensor that is no parameter", {"a": "0.lora_A"}),
        ("to_no_name", "tied to a text that no parameter is called", {"a": "../b"}),
        ("to_empty", "tied to an empty name", {"a": ""}),
        ("itself", "tied to itself", {"a": "a"}),
        ("cycle", "tied in a cycle", {"a": "b", "b": "c", "c": "a"}),
    ]
    for name, why, ring in rings:
        model = small()
        for entry, to in ring.items():
            model.tied(entry, to)
        yield fault(name, "tied", at("a", "to"), why, model.file())


def architectures() -> Iterator[Invalid]:
    """Architectures: one ``torch.nn`` leaf at fault, a tree at fault, a config of ``transformers`` at fault."""
    child = "architecture.config.children[0]"
    good = {"in_features": 2, "out_features": 2, "bias": False}
    leaves: list[tuple[str, str, str, str, Any]] = [
        ("unknown_class", ".class", "a class that is not in the list", "Bilinear2", {}),
        ("container_class", ".class", "a container that is not in the list", "ModuleList", {}),
        ("import_path", ".class", "a path to import", "os.system", {}),
        ("missing_argument", ".config", "an argument is missing", "Linear", {"in_features": 2, "out_features": 2}),
        ("other_argument", ".config", "an argument that is not in the list", "Linear", {**good, "device": "cuda"}),
        ("float_array", ".config.bias", "an array of floats", "Linear", {**good, "bias": [1.0]}),
        ("object_argument", ".config.bias", "an object as an argument", "Linear", {**good, "bias": {}}),
    ]
    for name, place, why, leaf, config in leaves:
        yield of_architecture(name, child + place, why, sequential((leaf, config)))
    for name, why, bad in (("empty_name", "a child without a name", ""), ("point", "a name with a point", "a.b")):
        yield of_architecture(name, f"{child}.name", why, sequential(linear(2, 2, bias=False), names=[bad]))
    twins = sequential(linear(2, 2, bias=False), ("ReLU", {"inplace": False}), names=["a", "a"])
    yield of_architecture("same_name", "architecture.config.children[1].name", "two children of one name", twins)
    for name, key in (
        ("auto_map", "auto_map"),
        ("trust_remote_code", "trust_remote_code"),
        ("custom_pipelines", "custom_pipelines"),
        ("quantization_config", "quantization_config"),
        ("use_kernels", "use_kernels"),
        ("underscore", "_name_or_path"),
    ):
        gpt2 = gpt2_with({key: True})
        yield of_architecture(name, f"architecture.config.{key}", f"the key {key}", gpt2)
    gpt2 = gpt2_with({"layers": [{"inner": {"auto_map": {}}}]})
    yield of_architecture(
        "deep_auto_map", "architecture.config.layers[0].inner.auto_map", "the key auto_map, deep", gpt2
    )
    for name, key in (
        ("alias", "attribute_map"),
        ("wrapped_timm", "checkpoint_path"),
        ("wrapped_cfg", "pretrained_cfg"),
    ):
        gpt2 = gpt2_with({"model_args": {key: {}}})
        yield of_architecture(name, f"architecture.config.model_args.{key}", f"the key {key}, as timm takes it", gpt2)
    for name, leaf in (("private_class", "_GPT2"), ("dotted_class", "models.gpt2.GPT2Model")):
        gpt2 = gpt2_with({}) | {"class": leaf}
        yield of_architecture(name, "architecture.class", f"the class {leaf!r}", gpt2)


def calls() -> Iterator[Invalid]:
    """Architectures that record a call."""
    for name, key in (
        ("pretrained", "pretrained"),
        ("pretrained_cfg", "pretrained_cfg_overlay"),
        ("checkpoint_path", "checkpoint_path"),
        ("features_only", "features_only"),
        ("pruned", "pruned"),
    ):
        yield of_call(f"timm_{name}", f"config.{key}", f"timm: the key {key}", "timm", "vit", {key: False})
    deep = {"a": [{"b": {"tuple": [{"checkpoint_path": "x"}]}}]}
    yield of_call(
        "timm_deep", "config.a[0].b.tuple[0].checkpoint_path", "timm: a refused key, deep", "timm", "vit", deep
    )
    node = {"class": "torch.nn:Identity", "config": {}}
    yield of_call("timm_class", "config.norm", "timm: a class among the arguments", "timm", "vit", {"norm": node})
    for name, leaf in (("source", "hf-hub:timm/vit"), ("tag", "vit.in21k"), ("private", "_vit")):
        yield of_call(f"timm_{name}", "class", f"timm: the name {leaf!r}", "timm", leaf, {})
    for name, path in (
        ("no_colon", "torch.nn.Linear"),
        ("two_colons", "torch:nn:Linear"),
        ("no_class", "torch.nn:"),
        ("no_module", ":Linear"),
        ("attribute", "torch:nn.Linear"),
        ("private_module", "torch._C:Generator"),
        ("dunder", "torch.nn:__builtins__"),
        ("relative", "..torch:nn"),
        ("long", "a" * 508 + ":Bcd4"),
        ("line_feed", "torch.nn:Linear\n"),
        ("not_ascii", "törch:Linear"),
    ):
        yield of_call(f"python_{name}", "class", f"python: the path {path[:40]!r}", "python", path, {})
    bad = {"layer": [{"class": "os.system", "config": {}}]}
    yield of_call(
        "python_argument", "config.layer[0].class", "python: a path among the arguments", "python", "a:B", bad
    )
    for name, why, value in (
        ("half_class", "class and another key than config", {"class": "a:B", "x": 1}),
        ("class_of_none", "a class of no text", {"class": None}),
        ("more_class", "class, config and more", {**node, "args": []}),
        ("tuple_and_more", "tuple and another key", {"tuple": [], "x": 1}),
        ("tuple_of_none", "a tuple of no array", {"tuple": None}),
    ):
        yield of_call(f"python_{name}", "config.x", f"python: {why}", "python", "a:B", {"x": value})
    for name, key in (("dash", "in-features"), ("underscore", "_x"), ("empty", ""), ("digit", "1")):
        why = f"python: an argument that is called {key!r}"
        yield of_call(f"python_name_{name}", f"config.{key}", why, "python", "a:B", {key: 1})
    nested = {"x": {"class": "a:C", "config": {"no-name": 1}}}
    yield of_call("python_deep_name", "config.x.config.no-name", "python: no name, deep", "python", "a:B", nested)
    value: Any = 1
    for _ in range(16):
        value = [value]
    where = "config.x" + "[0]" * 16
    yield of_call("python_too_deep", where, "python: an argument at level 17", "python", "a:B", {"x": value})
    many = {"x": [0] * 10_000}
    yield of_call("python_too_many", "config.x[9999]", "python: 10,001 arguments", "python", "a:B", many)


def of_call(name: str, where: str, why: str, family: str, called: str, config: dict[str, Any]) -> Invalid:
    """A pack with this architecture."""
    model = Model({"family": family, "class": called, "config": config})
    model.stored("0.weight", tensor("float32", 2, 2))
    return fault(name, "architecture", f"architecture.{where}", why, model.file())


def gpt2_with(more: dict[str, Any]) -> dict[str, Any]:
    """An architecture of the family ``transformers``."""
    return {"family": "transformers", "class": "GPT2LMHeadModel", "config": {"model_type": "gpt2", **more}}


def of_architecture(name: str, where: str, why: str, architecture: dict[str, Any]) -> Invalid:
    """A pack with this architecture."""
    model = Model(architecture)
    model.stored("0.weight", tensor("float32", 2, 2))
    return fault(name, "architecture", where, why, model.file())


def cases() -> Iterator[Invalid]:
    """All of them."""
    for group in (names, long_names, of_one_form, shapes, scales, values_and_ties, architectures, calls):
        yield from group()
