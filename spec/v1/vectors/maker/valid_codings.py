"""Packs that are valid: stored parameters with a coding."""

from . import trellis
from .coding_cases import DYNAMIC, FIXED
from .codings import as_stream, int8_tensor, nibbles, planes, scales_tensor, stream
from .model import Model, linear, sequential, tensor
from .pack import TYPES
from .shown import shows


@shows("a parameter in each coding, in each dtype that goes with it")
def codings() -> Model:
    kinds = [("float16", "float32"), ("bfloat16", "float32")]
    kinds += [
        (coding, dtype)
        for coding in ("int8-block64", "normal4-block64", "trellis8")
        for dtype in ("float32", "bfloat16", "float16")
    ]
    model = Model(sequential(*[linear(13, 5)] * (len(kinds) + 1)))
    for number, (coding, dtype) in enumerate(kinds):
        name, scales = f"{number}.weight", scales_tensor([0x2C01, 0x3000])
        if coding == "int8-block64":
            codes = int8_tensor([(5 * n) % 255 - 127 for n in range(65)])
            model.coded(name, dtype, [5, 13], coding, codes, scales)
        elif coding == "normal4-block64":
            model.coded(name, dtype, [5, 13], coding, nibbles([(5 * n) % 16 for n in range(65)]), scales)
        elif coding == "trellis8":
            levels = [(7 * n) % 31 - 15 for n in range(65)]
            made = trellis.coded(levels, [5, 13], order=number % 2, classes=[0, 1] * 6 + [1] if number % 2 else None)
            model.coded(name, dtype, [5, 13], coding, trellis.codes(made))
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


@shows("adapters of which one factor comes from the seed, in each dtype and from a table of the pack's own")
def seeded_factors() -> Model:
    embedding = "Embedding", {"num_embeddings": 16, "embedding_dim": 4, "padding_idx": None}
    model = Model(sequential(embedding, linear(4, 6, bias=False), linear(6, 4, bias=False), linear(4, 4, bias=False)))
    model.table("own", 2, [0xBFC00000, 0xBE800000, 0x3E800000, 0x3FC00000])
    first = {"lora_A": ("uniform16", 0.5)}
    model.adapted("0.weight", [16, 4], rank=2, fan_in_fan_out=True, drawn=first)
    model.adapted("1.weight", [6, 4], "bfloat16", rank=2, adapter_dtype="bfloat16", drawn={"lora_B": ("sign1", 0.125)})
    model.adapted("2.weight", [4, 6], rank=2, adapter_dtype="float16", drawn={"lora_A": ("own", 0.25)}, magnitude=True)
    both = {"lora_A": ("normal16", 0.0625), "lora_B": ("normal2", 0.5)}
    model.adapted("3.weight", [4, 4], rank=3, drawn=both)
    return model


@shows("VeRA: factors from the seed or the file, shared by layers of other shapes and ranks, and two vectors")
def vera() -> Model:
    embedding = "Embedding", {"num_embeddings": 16, "embedding_dim": 4, "padding_idx": None}
    layers = [linear(4, 6, bias=False), linear(6, 5, bias=False), linear(5, 4, bias=False), linear(4, 4, bias=False)]
    model = Model(sequential(embedding, *layers))
    vectors = ("lambda_b", "lambda_d")
    slices = {"lora_A": "0.weight", "lora_B": "1.weight"}
    drawn = {"lora_A": ("uniform16", 0.5)}
    model.adapted("0.weight", [16, 4], rank=9, fan_in_fan_out=True, vectors=vectors, drawn=drawn)
    model.adapted("1.weight", [6, 4], rank=9, vectors=vectors, slices={"lora_A": "0.weight"})
    model.adapted("2.weight", [5, 6], rank=7, vectors=vectors, beta=False, slices=slices)
    model.adapted("3.weight", [4, 5], "bfloat16", rank=2, slices=slices)
    own = {"lora_A": ("normal4", 0.25), "lora_B": ("sign1", 0.5)}
    model.adapted("4.weight", [4, 4], rank=4, adapter_dtype="float16", vectors=vectors, drawn=own, magnitude=True)
    return model


@shows("adapters without factors: a scale for each input, each output, or one for the weight")
def diagonal_adapters() -> Model:
    embedding = "Embedding", {"num_embeddings": 16, "embedding_dim": 4, "padding_idx": None}
    layers = [linear(4, 6, bias=False), linear(6, 5, bias=False), linear(5, 4, bias=False), linear(4, 4, bias=False)]
    model = Model(sequential(embedding, *layers))
    model.adapted("0.weight", [16, 4], rank=0, fan_in_fan_out=True, vectors=("scale_in",), beta=False)
    model.adapted("1.weight", [6, 4], "float16", rank=0, vectors=("scale_out",), beta=False, adapter_dtype="float16")
    model.adapted("2.weight", [5, 6], "bfloat16", rank=0, vectors=("scale_in", "scale_out"), magnitude=True)
    model.adapted("3.weight", [4, 5], rank=0)
    model.adapted("4.weight", [4, 4], rank=2, vectors=("scale_in", "scale_out"))
    return model


@shows("adapters with tensors in each coding, one with DoRA's magnitude, on linear layers and an embedding")
def coded_adapters() -> Model:
    embedding = "Embedding", {"num_embeddings": 16, "embedding_dim": 4, "padding_idx": None}
    model = Model(sequential(embedding, linear(4, 6, bias=False), linear(6, 4, bias=False), linear(4, 4, bias=False)))
    model.adapted("0.weight", [16, 4], rank=2, fan_in_fan_out=True)
    levels = [(7 * n) % 31 - 15 for n in range(32)]
    model.coded_adapter("0.weight", "lora_A", "trellis8", trellis.codes(trellis.coded(levels, [2, 16], 0x3D00)))
    made = trellis.coded(levels[:8], [4, 2], 0x3D00, order=1)
    model.coded_adapter("0.weight", "lora_B", "trellis8", trellis.codes(made))
    model.adapted("1.weight", [6, 4], "bfloat16", rank=2, adapter_dtype="bfloat16", magnitude=True)
    model.coded_adapter(
        "1.weight", "lora_A", "int8-block64", int8_tensor([*range(-4, 4)]), scales_tensor([0x3000]), "bfloat16"
    )
    made = trellis.coded(levels[:6], [6], 0x3D00)
    model.coded_adapter("1.weight", "magnitude", "trellis8", trellis.codes(made), dtype="bfloat16")
    model.adapted("2.weight", [4, 6])
    model.coded_adapter("2.weight", "lora_A", "float16", tensor("float16", 1, 6))
    model.coded_adapter("2.weight", "lora_B", "planes-zlib", stream(planes(tensor("float32", 4, 1).data, 4)))
    model.adapted("3.weight", [4, 4], "float16", adapter_dtype="float16")
    model.coded_adapter(
        "3.weight", "lora_B", "normal4-block64", nibbles([1, 9, 7, 14]), scales_tensor([0x2000]), "float16"
    )
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
