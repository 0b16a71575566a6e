"""Packs that are valid: roles, dtypes, tables, names, adapters and versions."""

import numpy as np

from .element_cases import CUSTOM
from .model import Model, linear, sequential, tensor
from .pack import TYPES
from .shown import shows
from .small import MOST_OF_A_KEY
from .tables import hex32


@shows("one generated tensor: a file without any data")
def minimal() -> Model:
    model = Model(sequential(linear(2, 2, bias=False)))
    model.seeded("0.weight", [2, 2])
    return model


@shows(
    "names as their library has them: decomposed, beside a name of the same normal form, and of newer Unicode",
    buildable=False,
)
def names_of_any_form() -> Model:
    model = Model(sequential())
    for name in ("gro\u0308ße", "größe", "a\U0001e4ec\u0301", "\U000105d2\u0307"):
        model.constant(name, [1], "float32", "3f800000")
    return model


@shows("a scale between two shortest decimals that are equally near: the even last digit")
def scale_of_even_digit() -> Model:
    model = Model(sequential(linear(2, 2, bias=False)))
    model.seeded("0.weight", [2, 2], scale=0.9297256469726562)
    return model


@shows("a model without parameters; its root is not a container")
def no_parameters() -> Model:
    return Model({"family": "torch.nn", "class": "ReLU", "config": {"inplace": False}})


@shows("every role, as a small classifier would have them")
def every_role() -> Model:
    leaves = linear(4, 6), ("ReLU", {"inplace": False}), linear(6, 6), linear(6, 3, bias=False), linear(6, 3)
    model = Model(sequential(*leaves))
    model.adapted("0.weight", [6, 4], rank=2)
    model.stored("0.bias", tensor("float32", 6), "bias")
    model.seeded("2.weight", [6, 6], scale=0.40824830532073975)
    model.constant("2.bias", [6], "float32", "00000000")
    model.stored("3.weight", tensor("float32", 3, 6), "head")
    model.tied("4.weight", "3.weight")
    model.stored("4.bias", tensor("float32", 3, first=9), "head", trained=False)
    return model


@shows(
    "a stored and a constant tensor of every element type; data in the order of element size, then name",
    buildable=False,
)
def every_dtype() -> Model:
    model = Model(sequential())
    for dtype, (_, size) in TYPES.items():
        model.stored(f"stored.{dtype}", tensor(dtype, 3))
        model.constant(f"constant.{dtype}", [2], dtype, "01" + "00" * (size - 1) if size > 1 else "01")
    return model


@shows("shapes without dimensions, with a zero, with eight dimensions, and as large as a shape may be", buildable=False)
def odd_shapes() -> Model:
    model = Model(sequential())
    for number, shape in enumerate(([], [0], [3, 0, 2], [1] * 8, [2, 1, 1, 1, 1, 1, 1, 3])):
        model.stored(f"stored.{number}", tensor("float32", *shape))
        model.constant(f"constant.{number}", shape, "float32", "3f800000")
        model.seeded(f"seeded.{number}", shape)
    most = [0, 7 * 7 * 73 * 127 * 337, 92737 * 649657]  # without the zero 2**63 - 1 bytes, as many as there may be
    model.constant("constant.most", most, "int8", "01")
    return model


@shows("generated tensors in the three dtypes; adapters in another dtype than their weight")
def backbone_dtypes() -> Model:
    model = Model(sequential(*[linear(3, 5, bias=False)] * 6))
    adapters = {"float32": "bfloat16", "bfloat16": "float32", "float16": "float16"}
    for number, (dtype, adapter_dtype) in enumerate(adapters.items()):
        model.seeded(f"{number}.weight", [5, 3], dtype)
        model.adapted(f"{number + 3}.weight", [5, 3], dtype, rank=3, adapter_dtype=adapter_dtype)
    return model


@shows("every built-in table")
def builtin_tables() -> Model:
    ids = "normal16", "normal8", "normal4", "normal2", "uniform16", "sign1", "hadamard"
    model = Model(sequential(*[linear(4, 4, bias=False)] * len(ids)))
    for number, distribution in enumerate(ids):
        model.seeded(f"{number}.weight", [4, 4], distribution=distribution)
    return model


@shows("tables of the pack's own, of 1, 2, 4 and 8 bits; one of them holds zeros; one is not used")
def custom_tables() -> Model:
    model = Model(sequential(*[linear(4, 4, bias=False)] * 3))
    for bits in (1, 2, 4, 8):
        words = [int(word, 16) for word in hex32(np.array(CUSTOM[bits], np.float32))]
        model.table(f"own_{bits}", bits, words)
    for number, bits in enumerate((1, 4, 8)):
        model.seeded(f"{number}.weight", [4, 4], distribution=f"own_{bits}")
    return model


@shows("tied to a tied entry, to a generated one, and to a name that comes later")
def tied_chain() -> Model:
    embedding = "Embedding", {"num_embeddings": 5, "embedding_dim": 4, "padding_idx": None}
    model = Model(sequential(embedding, linear(4, 5, bias=False), linear(4, 5, bias=False), linear(4, 5, bias=False)))
    model.tied("0.weight", "1.weight")
    model.tied("1.weight", "3.weight")
    model.tied("2.weight", "0.weight")
    model.adapted("3.weight", [5, 4])
    return model


@shows("10,000 parameters: one that is stored, and a chain of ties that is followed 9,999 times", buildable=False)
def ten_thousand_parameters() -> Model:
    model = Model(sequential())
    for number in range(9_999):
        model.tied(f"p{number:04d}", f"p{number + 1:04d}")
    model.stored("p9999", tensor("float32", 2))
    return model


@shows("names outside ASCII, outside the basic plane, with spaces and quotes")
def unicode_names() -> Model:
    names = ["größe", "层", "🎲", 'a "quoted" name', "\ue000"]
    model = Model(sequential(*[linear(2, 3)] * len(names), names=names))
    for number, name in enumerate(names):
        (model.seeded if number % 2 else model.adapted)(f"{name}.weight", [3, 2])
        model.stored(f"{name}.bias", tensor("float32", 3), "bias")
    return model


@shows(
    "names without a point, such as weight, whose adapter is lora_A, lora_B and beta; the longest name", buildable=False
)
def bare_names() -> Model:
    model = Model(sequential())
    model.adapted("weight", [3, 2])
    model.adapted("w", [2, 3])
    model.stored("b", tensor("float32", 3))
    model.seeded("é" * 512, [3])
    return model


@shows("texts that are as long as they may be: entries, the provenance, a key")
def longest_texts() -> Model:
    model = Model(sequential(linear(4, 3)))
    model.table("own", 1, [0xBF800000, 0x3F800000])
    model.seeded("0.weight", [3, 4], distribution="own")
    model.constant("0.bias", [3], "float32", "00000000")
    long = "a" * 70_000
    model.parameters["0.weight"]["x-"] = [long, [[1]] * 9_999]
    model.descriptor["rng"]["tables"]["own"]["x-"] = long
    model.descriptor["provenance"] = {f"tool{number:02d}": long if number == 1 else "1.0" for number in range(64)}
    model.descriptor["x-"] = {"k" * MOST_OF_A_KEY: long}
    return model


@shows("fields that may be ignored, in every place where they may stand")
def ignored_fields() -> Model:
    model = Model(sequential(linear(4, 3)))
    model.table("own", 1, [0xBF800000, 0x3F800000])
    model.adapted("0.weight", [3, 4], distribution="own")
    model.stored("0.bias", tensor("float32", 3), "bias")
    descriptor, entry = model.descriptor, model.parameters["0.weight"]
    rng = descriptor["rng"]
    places = descriptor, descriptor["architecture"], rng, rng["tables"]["own"], entry, entry["adapter"]
    for place in (*places, entry["adapter"]["lora_A"], model.parameters["0.bias"]):
        place["x-note"] = {"any": [1, 2.5, None], "lottapack": "2.0"}
    return model


@shows("the scaling alpha / sqrt(rank)")
def rslora() -> Model:
    model = Model(sequential(linear(6, 4, bias=False)))
    model.adapted("0.weight", [4, 6], rank=3, alpha=0.1, scaling="rslora")
    return model


@shows("adapters without beta: it is 1")
def fixed_beta() -> Model:
    model = Model(sequential(linear(4, 3, bias=False)))
    model.adapted("0.weight", [3, 4], beta=False)
    return model


@shows("an embedding with an adapter: the weight is stored as (in, out)")
def fan_in_fan_out() -> Model:
    embedding = "Embedding", {"num_embeddings": 7, "embedding_dim": 3, "padding_idx": None}
    model = Model(sequential(embedding))
    model.adapted("0.weight", [7, 3], rank=2, fan_in_fan_out=True)
    return model


@shows("adapters with a magnitude, with and without beta, and one stored as (in, out)")
def magnitude() -> Model:
    embedding = "Embedding", {"num_embeddings": 7, "embedding_dim": 3, "padding_idx": None}
    model = Model(sequential(embedding, linear(3, 4, bias=False), linear(4, 2, bias=False)))
    model.adapted("0.weight", [7, 3], rank=2, fan_in_fan_out=True, magnitude=True)
    model.adapted("1.weight", [4, 3], rank=2, scaling="rslora", beta=False, magnitude=True)
    model.adapted("2.weight", [2, 4], "bfloat16", adapter_dtype="bfloat16", magnitude=True)
    return model


@shows("adapters on any parameter of a module: recurrent weights, each under its own name", buildable=False)
def recurrent() -> Model:
    names = "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"
    model = Model(sequential())
    model.adapted(f"0.{names[0]}", [8, 3], rank=2)
    model.adapted(f"0.{names[1]}", [8, 2], beta=False)
    for name in names[2:]:
        model.stored(f"0.{name}", tensor("float32", 8), "bias")
    return model


@shows("a transposed convolution with an adapter: the weight is stored as (in, out, ...)")
def transposed() -> Model:
    arguments = {"in_channels": 3, "out_channels": 2, "kernel_size": [2, 2], "stride": [1, 1], "padding": [0, 0]}
    arguments |= {"output_padding": [0, 0], "groups": 1, "bias": False, "dilation": [1, 1], "padding_mode": "zeros"}
    model = Model(sequential(("ConvTranspose2d", arguments)))
    model.adapted("0.weight", [3, 2, 2, 2], rank=3, fan_in_fan_out=True)
    return model


@shows(
    "batches of matrices with an adapter each: experts, stored either way, a coded factor, a magnitude", buildable=False
)
def experts() -> Model:
    model = Model(sequential())
    model.adapted("experts.gate_up_proj", [3, 8, 4], rank=2, batch_dims=1)
    model.adapted("experts.down_proj", [3, 4, 4], "bfloat16", rank=2, batch_dims=1, adapter_dtype="bfloat16")
    model.adapted("transposed.gate_up_proj", [2, 4, 6], rank=3, fan_in_fan_out=True, batch_dims=1, scaling="rslora")
    model.adapted("transposed.down_proj", [2, 3, 4], fan_in_fan_out=True, batch_dims=1, magnitude=True)
    model.adapted("experts.weight", [2, 2, 3, 4], rank=3, beta=False, batch_dims=2)
    model.coded_adapter("experts.gate_up_proj", "lora_A", "float16", tensor("float16", 3, 2, 4))
    return model


@shows("batches of matrices that share a factor: one that comes from the seed, one of two dimensions", buildable=False)
def shared_factors() -> Model:
    model = Model(sequential())
    model.adapted("experts.gate_up_proj", [3, 8, 4], rank=2, batch_dims=1, shared_factor="lora_A")
    model.adapted("experts.down_proj", [3, 4, 6], "bfloat16", rank=3, batch_dims=1, shared_factor="lora_B")
    model.adapted(
        "transposed.down_proj",
        [2, 3, 4],
        fan_in_fan_out=True,
        batch_dims=1,
        shared_factor="lora_A",
        drawn={"lora_A": ("uniform16", 0.5)},
        magnitude=True,
    )
    model.adapted("experts.weight", [2, 2, 3, 4], rank=2, batch_dims=2, shared_factor="lora_B")
    return model


@shows("parameters with the names that tensors of an adapter have, beside weights without an adapter", buildable=False)
def names_of_parts() -> Model:
    model = Model(sequential())
    model.stored("m.weight", tensor("float32", 2, 3))
    model.seeded("q", [2, 3])
    parts = "lora_A", "lora_B", "beta", "magnitude", "lambda_b", "lambda_d", "scale_in", "scale_out"
    for first, part in enumerate(parts):
        model.stored(f"m.{part}", tensor("float32", 2, first=first), "other")
        model.constant(f"q_{part}", [2], "float32", "3f800000")
    return model


@shows("the largest seed")
def largest_seed() -> Model:
    model = Model(sequential(linear(3, 3, bias=False)), seed=2**64 - 1)
    model.seeded("0.weight", [3, 3])
    return model


@shows("a later minor version, all of whose fields and ids version 1.0 knows")
def later_minor() -> Model:
    model = minimal()
    model.descriptor["lottapack"] = "1.17"
    return model


@shows("values that float16 holds as subnormal numbers or zero, from normal binary32 numbers")
def float16_subnormals() -> Model:
    model = Model(sequential(linear(8, 8, bias=False)))
    model.seeded("0.weight", [8, 8], "float16", scale=2.0**-22)
    return model


@shows("the generator torch-cpu, of which nothing is generated")
def torch_cpu() -> Model:
    model = Model(sequential(linear(3, 2)))
    model.descriptor["rng"] |= {"id": "torch-cpu", "torch": "2.13.0", "capability": "AVX2"}
    model.stored("0.weight", tensor("float32", 2, 3), "head")
    model.constant("0.bias", [2], "float32", "00000000")
    return model
