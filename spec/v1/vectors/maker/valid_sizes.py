"""Packs that are valid, and read another way: beyond what readers take at a time, unusual, and at the borders."""

from .borders import BORDERED, borders
from .codings import as_stream
from .deflate_codes import stored
from .model import Model, linear, sequential, tensor
from .shown import shows
from .tables import builtin


@shows("a generated tensor of over 2**20 elements, with an adapter", buildable=False)
def long_tensor() -> Model:
    model = Model(sequential())
    model.adapted("adapted", [1025, 1031], "float16", distribution="normal2", adapter_dtype="bfloat16", beta=False)
    return model


@shows("two scaffolds, and a field that may be ignored in a parameter's entry")
def scaffolds_of_unusual() -> Model:
    def made(seed: int) -> Model:
        model = Model(sequential(linear(4, 3, bias=False)), seed)
        model.seeded("0.weight", [3, 4])
        return model

    model = made(42)
    model.parameters["0.weight"]["x-note"] = "1"
    model.scaffold("task-b", made(43))
    return model


@shows("transformers: 100,000 values, one of them an empty array", buildable=False)
def most_values_and_an_empty_array() -> Model:
    config = {"model_type": "gpt2", "a": [0] * 99_996, "b": [], "c": {}}
    model = Model({"family": "transformers", "class": "GPT2Model", "config": config})
    model.stored("wte.weight", tensor("float32", 2, 2))
    return model


@shows("scales as small and as large as their tables and dtypes allow; tables of the least and of small entries")
def scale_borders() -> Model:
    leaves = 2 * len(BORDERED) + 7
    model = Model(sequential(*[linear(4, 4, bias=False)] * leaves))
    model.table("least", 1, [0x80800000, 0x00800000])
    model.table("small", 2, [0xBE800000, 0xBE000000, 0x3E000000, 0x3E800000])
    given = [("float32", table, float(scale)) for table in BORDERED for scale in borders(builtin(table))]
    given += [("float32", "sign1", 2.0**-126), ("bfloat16", "sign1", 2.0**-126)]
    given += [("float16", "sign1", 65520 - 2.0**-8), ("bfloat16", "sign1", 2.0**128 - 2.0**119 - 2.0**104)]
    given += [("float32", "sign1", (2 - 2.0**-23) * 2.0**127)]
    given += [("float32", "least", 1.0), ("float16", "small", 131072.0)]
    for number, (dtype, table, scale) in enumerate(given):
        model.seeded(f"{number}.weight", [4, 4], dtype, table, scale)
    return model


@shows("weights of more elements than readers take at a time: wide, turned, in a batch; a constant", buildable=False)
def pieces() -> Model:
    model = Model(sequential())
    model.seeded("seeded", [530_000], "float16", "sign1")
    model.constant("constant", [530_000], "uint8", "07")
    model.adapted("wide", [2, 530_000], "float16", "sign1", rank=0, vectors=("scale_out",), beta=False)
    model.adapted("turned", [1100, 480], "bfloat16", "sign1", fan_in_fan_out=True, adapter_dtype="bfloat16")
    model.adapted("long", [1100, 480], "bfloat16", "sign1", fan_in_fan_out=True, magnitude=True)
    model.adapted("batch", [3, 600, 300], "bfloat16", "sign1", batch_dims=1, adapter_dtype="bfloat16")
    return model


@shows("zlib streams of 65,536 bytes and of more", buildable=False)
def long_streams() -> Model:
    model = Model(sequential())
    for name, size in (("exact", 65_536 - 11), ("longer", 66_000)):
        made = as_stream(stored(bytes(size)))
        model.coded(name, "uint8", [size], "planes-zlib", made)
    assert len(model.tensors["exact.codes"].data) == 65_536
    return model


@shows("a table of zeros, which any positive scale fits")
def zeros_of_any_scale() -> Model:
    scales = (
        ("float32", 2.0**-149),
        ("float32", 2.0**127),
        ("float16", 2.0**100),
        ("bfloat16", (2 - 2.0**-23) * 2.0**127),
    )
    model = Model(sequential(*[linear(4, 4, bias=False)] * len(scales)))
    model.table("zeros", 1, [0, 0])
    for number, (dtype, scale) in enumerate(scales):
        model.seeded(f"{number}.weight", [4, 4], dtype, "zeros", scale)
    return model


@shows("a batch whose matrices lie across pieces, and a wide weight whose factor comes from the seed", buildable=False)
def pieces_of_matrices() -> Model:
    model = Model(sequential())
    model.adapted("batch", [4, 600, 300], "bfloat16", "sign1", batch_dims=1, adapter_dtype="bfloat16")
    model.adapted("wide", [2, 140_000], "float16", "sign1", drawn={"lora_A": ("sign1", 0.5)}, beta=False)
    return model
