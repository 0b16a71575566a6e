"""Packs that are valid: stored parameters with a coding."""

from .coding_cases import DYNAMIC, FIXED
from .codings import as_stream, int8_tensor, nibbles, planes, scales_tensor, stream
from .model import Model, linear, sequential, tensor
from .pack import TYPES
from .shown import shows


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
