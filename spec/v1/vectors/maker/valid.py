"""The packs in ``files/valid``: each shows one thing that a reader must accept."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .coding_cases import DYNAMIC, FIXED
from .codings import as_stream, int8_tensor, nibbles, planes, scales_tensor, stream
from .element_cases import CUSTOM
from .model import Model, linear, sequential, tensor
from .pack import TYPES
from .small import MOST_OF_A_KEY, MOST_OF_AN_ENTRY, filled
from .tables import hex32


@dataclass(frozen=True)
class Valid:
    """A pack, and what its sidecar says."""

    name: str
    sidecar: dict[str, Any]
    data: bytes


CASES: dict[str, tuple[str, bool, Callable[[], Model]]] = {}


def shows(why: str, *, buildable: bool = True) -> Callable[[Callable[[], Model]], Callable[[], Model]]:
    """Register a model; ``buildable``: its architecture yields just these parameters."""

    def register(make: Callable[[], Model]) -> Callable[[], Model]:
        CASES[make.__name__] = why, buildable, make
        return make

    return register


@shows("one generated tensor: a file without any data")
def minimal() -> Model:
    model = Model(sequential(linear(2, 2, bias=False)))
    model.seeded("0.weight", [2, 2])
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


@shows("shapes without dimensions, with a zero, and with eight dimensions", buildable=False)
def odd_shapes() -> Model:
    model = Model(sequential())
    for number, shape in enumerate(([], [0], [3, 0, 2], [1] * 8, [2, 1, 1, 1, 1, 1, 1, 3])):
        model.stored(f"stored.{number}", tensor("float32", *shape))
        model.constant(f"constant.{number}", shape, "float32", "3f800000")
        model.seeded(f"seeded.{number}", shape)
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
    ids = "normal16", "normal8", "normal4", "normal2", "uniform16", "sign1"
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


@shows("names without a point, whose adapter is lora_A, lora_B and beta; the longest name", buildable=False)
def bare_names() -> Model:
    model = Model(sequential())
    model.adapted("weight", [3, 2])
    model.stored("b", tensor("float32", 3))
    model.seeded("é" * 512, [3])
    return model


@shows("texts that are as long as they may be: entries, the provenance, a key")
def longest_texts() -> Model:
    model = Model(sequential(linear(4, 3)))
    model.table("own", 1, [0xBF800000, 0x3F800000])
    model.seeded("0.weight", [3, 4], distribution="own")
    model.constant("0.bias", [3], "float32", "00000000")
    filled(model.parameters["0.weight"], "x-", MOST_OF_AN_ENTRY)
    filled(model.descriptor["rng"]["tables"]["own"], "x-", MOST_OF_AN_ENTRY)
    filled(model.descriptor["provenance"], "vectors", MOST_OF_AN_ENTRY)
    model.descriptor["x-"] = {"k" * MOST_OF_A_KEY: "a" * 2 * MOST_OF_AN_ENTRY}
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


@shows("a parameter in each coding, in each dtype that goes with it")
def codings() -> Model:
    kinds = [("float16", "float32"), ("bfloat16", "float32")]
    kinds += [
        (f"{width}-block64", dtype) for width in ("int8", "normal4") for dtype in ("float32", "bfloat16", "float16")
    ]
    model = Model(sequential(*[linear(13, 5)] * (len(kinds) + 1)))
    for number, (coding, dtype) in enumerate(kinds):
        name, scales = f"{number}.weight", scales_tensor([0x2C01, 0x3000])
        if coding == "int8-block64":
            codes = int8_tensor([(5 * n) % 255 - 127 for n in range(65)])
            model.coded(name, dtype, [5, 13], coding, codes, scales)
        elif coding == "normal4-block64":
            model.coded(name, dtype, [5, 13], coding, nibbles([(5 * n) % 16 for n in range(65)]), scales)
        else:
            model.coded(name, dtype, [5, 13], coding, tensor(coding, 5, 13))
        model.stored(f"{number}.bias", tensor("float32", 5), "bias")
    last = len(kinds)
    model.coded(f"{last}.weight", "float32", [5, 13], "planes-zlib", stream(planes(tensor("float32", 5, 13).data, 4)))
    model.stored(f"{last}.bias", tensor("float32", 5), "bias")
    return model


@shows(
    "coded tensors of every dtype and without elements; a compressed one by fixed and by dynamic Huffman codes",
    buildable=False,
)
def coded_shapes() -> Model:
    model = Model(sequential())
    for dtype, (_, size) in TYPES.items():
        model.coded(f"planes.{dtype}", dtype, [2, 3], "planes-zlib", stream(planes(tensor(dtype, 2, 3).data, size)))
    model.coded("planes.fixed", "float32", [8, 12], "planes-zlib", as_stream(FIXED))
    model.coded("planes.dynamic", "float32", [8, 12], "planes-zlib", as_stream(DYNAMIC))
    model.coded("empty.planes", "float32", [0, 2], "planes-zlib", stream(b""))
    model.coded("empty.int8", "float32", [0], "int8-block64", int8_tensor([]), scales_tensor([]))
    model.coded("empty.normal4", "float32", [0], "normal4-block64", nibbles([]), scales_tensor([]))
    model.coded("empty.float16", "float32", [0], "float16", tensor("float16", 0))
    model.coded("single.int8", "float32", [], "int8-block64", int8_tensor([3]), scales_tensor([0x3C00]))
    model.coded("zeros.normal4", "bfloat16", [64], "normal4-block64", nibbles([8] * 64), scales_tensor([0]))
    return model


@shows("tied to a parameter with a coding")
def coded_and_tied() -> Model:
    embedding = "Embedding", {"num_embeddings": 16, "embedding_dim": 4, "padding_idx": None}
    model = Model(sequential(embedding, linear(4, 4, bias=False), linear(4, 16, bias=False)))
    codes = int8_tensor([(11 * n) % 255 - 127 for n in range(64)])
    model.coded("0.weight", "float32", [16, 4], "int8-block64", codes, scales_tensor([0x2C01]))
    model.adapted("1.weight", [4, 4])
    model.tied("2.weight", "0.weight")
    return model


@shows("a convolution with an adapter, and a batch norm with its buffers, one of them without dimensions")
def convolution() -> Model:
    config = {"in_channels": 2, "out_channels": 3, "kernel_size": [2, 2], "stride": [1, 1], "padding": [0, 0]}
    config |= {"dilation": [1, 1], "groups": 1, "bias": True, "padding_mode": "zeros"}
    norm = {"num_features": 3, "eps": 1e-05, "momentum": 0.1, "affine": True, "track_running_stats": True}
    model = Model(sequential(("Conv2d", config), ("BatchNorm2d", norm), ("ReLU", {"inplace": True})))
    model.adapted("0.weight", [3, 2, 2, 2], rank=2)
    model.stored("0.bias", tensor("float32", 3), "bias")
    model.constant("1.weight", [3], "float32", "3f800000")
    model.stored("1.bias", tensor("float32", 3), "norm")
    model.stored("1.running_mean", tensor("float32", 3), "buffer", trained=False)
    model.stored("1.running_var", tensor("float32", 3, first=15), "buffer", trained=False)
    model.stored("1.num_batches_tracked", tensor("int64", first=6), "buffer", trained=False)
    return model


@shows("Sequentials in a Sequential, and a name that is no number")
def nested() -> Model:
    inner = sequential(linear(2, 3, bias=False), ("Tanh", {}), names=["first", "act"])
    tree = sequential(("Sequential", inner["config"]), linear(3, 2, bias=False), names=["body", "head"])
    model = Model(tree)
    model.seeded("body.first.weight", [3, 2])
    model.stored("head.weight", tensor("float32", 2, 3), "head")
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


@shows("the family transformers: GPT-2 with one layer; Conv1D weights are (in, out); the head is tied")
def transformers_gpt2() -> Model:
    config = {"model_type": "gpt2", "n_embd": 4, "n_head": 1, "n_layer": 1, "n_positions": 4, "vocab_size": 8}
    config |= {"bos_token_id": 0, "eos_token_id": 0}
    model = Model({"family": "transformers", "class": "GPT2LMHeadModel", "config": config})
    model.stored("transformer.wte.weight", tensor("float32", 8, 4), "embedding")
    model.seeded("transformer.wpe.weight", [4, 4])
    sizes = {"attn.c_attn": (4, 12), "attn.c_proj": (4, 4), "mlp.c_fc": (4, 16), "mlp.c_proj": (16, 4)}
    for layer, (d_in, d_out) in sizes.items():
        model.adapted(f"transformer.h.0.{layer}.weight", [d_in, d_out], rank=2, fan_in_fan_out=True)
        model.constant(f"transformer.h.0.{layer}.bias", [d_out], "float32", "00000000")
    for norm in ("transformer.h.0.ln_1", "transformer.h.0.ln_2", "transformer.ln_f"):
        model.constant(f"{norm}.weight", [4], "float32", "3f800000")
        model.stored(f"{norm}.bias", tensor("float32", 4), "norm")
    model.tied("lm_head.weight", "transformer.wte.weight")
    return model


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


@shows("the family timm: a tuple, a list and a dictionary among the arguments", buildable=False)
def timm_arguments() -> Model:
    config = {"img_size": {"tuple": [32, 32]}, "num_classes": 3, "block_args": {"rates": [0.0, 0.5], "act": None}}
    model = Model({"family": "timm", "class": "vit_tiny_patch16_224", "config": config})
    model.stored("head.weight", tensor("float32", 3, 2), "head")
    return model


@shows("the family python: built where the caller allows torch", buildable=False)
def python_class() -> Model:
    sizes = {"in1_features": 3, "in2_features": 2, "out_features": 4}
    model = Model({"family": "python", "class": "torch.nn:Bilinear", "config": sizes})
    model.stored("weight", tensor("float32", 4, 3, 2))
    model.constant("bias", [4], "float32", "00000000")
    return model


@shows("the family python with a class among the arguments: built where the caller allows torch", buildable=False)
def python_nested() -> Model:
    layer = {"class": "torch.nn:Linear", "config": {"in_features": 3, "out_features": 4, "bias": False}}
    model = Model({"family": "python", "class": "torch.nn:DataParallel", "config": {"module": layer}})
    model.seeded("module.weight", [4, 3])
    return model


def digests(model: Model) -> dict[str, str]:
    """The SHA-256 of every plain parameter, little-endian, in its recorded dtype."""
    made: dict[str, str] = {}
    for name in sorted(model.parameters):
        way = [name]
        while model.parameters[way[-1]]["role"] == "tied" and way[-1] not in made:
            way.append(model.parameters[way[-1]]["to"])
        digest = made.get(way[-1]) or hashlib.sha256(model.plain[way[-1]]).hexdigest()
        made.update(dict.fromkeys(way, digest))
    return dict(sorted(made.items()))


def weights(model: Model) -> dict[str, Any]:
    """What a sidecar says of the weights of one scaffold."""
    entries = sorted(model.parameters.items())
    fingerprints = {name: entry["fingerprint"] for name, entry in entries if "fingerprint" in entry}
    return {"fingerprints": fingerprints, "merged_sha256": digests(model)}


def cases() -> Iterator[Valid]:
    """All of them."""
    for name, (why, buildable, make) in CASES.items():
        model = make()
        sidecar = {"why": why, "buildable": buildable, **weights(model)}
        if model.scaffolds:
            sidecar["scaffolds"] = {name: weights(twin) for name, twin in sorted(model.scaffolds.items())}
        yield Valid(name, sidecar, model.file())
