"""Faults of coded tensors: codings.md."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from . import deflate, trellis
from .coding_cases import FIXED
from .codings import as_stream, int8_tensor, nibbles, planes, scales_tensor, stream
from .invalid_form import at
from .model import Model, linear, sequential, tensor
from .pack import Tensor
from .small import Invalid

NAME = "0.weight"
LEVELS = [(7 * n) % 31 - 15 for n in range(65)]
CODES, SCALES = f"{NAME}.codes", f"{NAME}.scales"


def coded(coding: str = "int8-block64", dtype: str = "float32") -> Model:
    """A linear layer of 13 inputs and 5 outputs, 65 elements, whose weight has a coding."""
    model = Model(sequential(linear(13, 5, bias=False)))
    if coding == "int8-block64":
        model.coded(NAME, dtype, [5, 13], coding, int8_tensor([n - 32 for n in range(65)]), scales_tensor([0x2C00] * 2))
    elif coding == "normal4-block64":
        model.coded(NAME, dtype, [5, 13], coding, nibbles([n % 16 for n in range(65)]), scales_tensor([0x2C00] * 2))
    elif coding == "trellis8":
        model.coded(NAME, dtype, [5, 13], coding, trellis.codes(trellis.coded(LEVELS, [5, 13])))
    elif coding == "planes-zlib":
        made = tensor(dtype, 5, 13)
        model.coded(NAME, dtype, [5, 13], coding, stream(planes(made.data, len(made.data) // 65)))
    else:
        model.coded(NAME, dtype, [5, 13], coding, tensor(coding, 5, 13))
    return model


def coded_adapter(dtype: str = "float32") -> Model:
    """A linear layer of 13 inputs and 5 outputs, whose ``lora_A`` is in ``trellis8``."""
    model = Model(sequential(linear(13, 5, bias=False)))
    model.adapted(NAME, [5, 13], dtype, adapter_dtype=dtype)
    made = trellis.codes(trellis.coded(LEVELS[:13], [1, 13]))
    model.coded_adapter(NAME, "lora_A", "trellis8", made, dtype=dtype)
    return model


def descriptors() -> Iterator[Invalid]:
    """The entry."""

    def fault(name: str, kind: str, where: str, why: str, model: Model) -> Invalid:
        return Invalid(f"descriptor_{kind}_{name}", why, "descriptor", kind, where, model.file())

    place = at(NAME, "coding")
    model = coded()
    model.parameters[NAME]["coding"]["id"] = "int8-block32"
    yield fault("coding", "id", f"{place}.id", "a coding that does not exist", model)
    for name, coding, dtype in (
        ("coding_dtype", "float16", "bfloat16"),
        ("coding_same_dtype", "float16", "float16"),
        ("coding_blocks_of_float64", "int8-block64", "float64"),
        ("coding_blocks_of_int8", "normal4-block64", "int8"),
        ("coding_trellis_of_float64", "trellis8", "float64"),
    ):
        model = coded(coding)
        model.parameters[NAME]["dtype"] = dtype
        yield fault(name, "id", f"{place}.id", f"the coding {coding} of a parameter in {dtype}", model)
    model = coded()
    del model.parameters[NAME]["coding"]["scales"]
    del model.tensors[SCALES]
    yield fault("coding_without_scales", "field", place, "blocks without scales", model)
    model = coded("float16")
    model.parameters[NAME]["coding"]["scales"] = "0" * 64
    yield fault("coding_with_scales", "field", place, "scales where no block has any", model)
    model = coded("trellis8")
    model.parameters[NAME]["coding"]["scales"] = "0" * 64
    yield fault("coding_trellis_with_scales", "field", place, "scales of a coding that has them in its codes", model)
    for name, kind, where, why, change in (
        ("coding_of_adapter", "id", ".id", "a coding of an adapter that does not exist", {"id": "trellis9"}),
        ("coding_of_adapter_dtype", "id", ".id", "the coding bfloat16 of an adapter in bfloat16", {"id": "bfloat16"}),
        ("coding_of_adapter_scales", "field", "", "blocks of an adapter without scales", {"id": "int8-block64"}),
        ("coding_of_adapter_unknown", "field", "", "a field that no coding has", {"step": 1}),
        ("coding_of_adapter_upper_case", "field", ".codes", "a hash in capitals", {"codes": "A" * 64}),
    ):
        model = coded_adapter("bfloat16")
        model.parameters[NAME]["adapter"]["lora_A"]["coding"].update(change)
        inside = f"{at(NAME, 'adapter.lora_A.coding')}{where}"
        yield fault(name, kind, inside, why, model)
    model = coded()
    model.parameters[NAME]["coding"]["block"] = 64
    yield fault("coding_unknown", "field", place, "a field that no coding has", model)
    model = coded()
    model.parameters[NAME]["coding"] = "int8-block64"
    yield fault("coding_string", "field", place, "a coding that is a string", model)
    model = coded()
    model.parameters[NAME]["coding"]["codes"] = "A" * 64
    yield fault("coding_upper_case", "field", f"{place}.codes", "a hash in capitals", model)
    model = Model(sequential(linear(2, 2, bias=False)))
    model.seeded(NAME, [2, 2])
    model.parameters[NAME]["coding"] = {"id": "float16", "codes": "0" * 64}
    yield fault("coding_of_seeded", "field", at(NAME), "a coding of a parameter that is generated", model)


def disagreements() -> Iterator[Invalid]:
    """Coded tensors and the entry."""

    def fault(name: str, kind: str, where: str, why: str, model: Model) -> Invalid:
        return Invalid(f"agreement_{kind}_{name}".replace("-", "_"), why, "agreement", kind, where, model.file())

    for name, lost in (("codes", CODES), ("scales", SCALES)):
        model = coded()
        del model.tensors[lost]
        yield fault(name, "missing", lost, f"{lost} is not in the file", model)
    model = coded()
    model.tensors[NAME] = tensor("float32", 5, 13)
    yield fault("decoded", "unused", NAME, "a parameter in the file beside its codes", model)
    model = coded()
    model.stored(SCALES, model.tensors[SCALES])
    yield fault("scales", "two-roles", SCALES, "scales that are a parameter too", model)
    short = int8_tensor([1] * 64)
    for name, where, why, made in (
        ("codes_short", CODES, "a code too few", short),
        ("codes_shape", CODES, "codes in the parameter's shape", replace(int8_tensor([1] * 65), shape=[5, 13])),
        ("codes_dtype", CODES, "codes without a sign", Tensor("uint8", [65], bytes(65))),
        ("scales_short", SCALES, "a scale for the whole block only", scales_tensor([0x2C00])),
        ("scales_long", SCALES, "a scale too many", scales_tensor([0x2C00] * 3)),
        ("scales_dtype", SCALES, "scales in bfloat16", replace(scales_tensor([0x3C00] * 2), dtype="bfloat16")),
    ):
        model = coded()
        model.tensors[where] = made
        yield fault(name, "mismatch", where, why, model)
    model = coded("normal4-block64")
    model.tensors[CODES] = nibbles([8] * 67)
    yield fault("nibbles_long", "mismatch", CODES, "a byte of codes too many", model)
    for name, dtype, shape in (("cast_dtype", "bfloat16", [5, 13]), ("cast_shape", "float16", [65])):
        model = coded("float16")
        model.tensors[CODES] = tensor(dtype, *shape)
        yield fault(name, "mismatch", CODES, f"the coding float16 in {dtype} {shape}", model)
    for name, coding in (("bomb", "planes-zlib"), ("trellis_bomb", "trellis8")):
        model = coded(coding)
        model.parameters[NAME]["shape"] = [2**20, 13]
        yield fault(name, "mismatch", CODES, "a compressed tensor of a parameter that it cannot hold", model)
    model = coded_adapter()
    del model.tensors["0.lora_A.codes"]
    yield fault("adapter_codes", "missing", "0.lora_A.codes", "an adapter whose codes are not in the file", model)
    model = coded_adapter()
    model.tensors["0.lora_A"] = tensor("float32", 1, 13)
    yield fault("adapter_decoded", "unused", "0.lora_A", "a tensor of an adapter beside its codes", model)
    model = coded_adapter()
    model.stored("0.lora_A.codes", model.tensors["0.lora_A.codes"])
    yield fault("adapter_codes", "two-roles", "0.lora_A.codes", "codes of an adapter that are a parameter too", model)
    model = coded_adapter()
    model.parameters[NAME]["shape"] = [5, 2**22]
    yield fault("adapter_bomb", "mismatch", "0.lora_A.codes", "codes that cannot hold the adapter's tensor", model)
    model = coded("planes-zlib")
    model.tensors[CODES] = replace(model.tensors[CODES], shape=[1, *model.tensors[CODES].shape])
    yield fault("stream_shape", "mismatch", CODES, "a zlib stream of two dimensions", model)


def contents() -> Iterator[Invalid]:
    """What decoding finds. The hashes of the coded tensors are right."""

    def fault(kind: str, name: str, where: str, why: str, model: Model) -> Invalid:
        return Invalid(f"contents_{kind}_{name}", why, "contents", kind, where, model.file())

    def with_tensor(coding: str, part: str, made: Tensor, dtype: str = "float32") -> Model:
        model = coded(coding, dtype)
        model.recode(NAME, part, made)
        return model

    for name, where in (("codes", CODES), ("scales", SCALES)):
        model = coded()
        old = model.tensors[where]
        model.tensors[where] = replace(old, data=bytes([old.data[0] ^ 1]) + old.data[1:])
        yield fault("sha256", name, where, "one bit of the tensor is another", model)
    for coding in ("float16", "int8-block64", "normal4-block64", "planes-zlib"):
        model = coded(coding)
        model.parameters[NAME]["sha256"] = "0" * 64
        yield fault("sha256", f"decoded_{coding}".replace("-", "_"), NAME, "another SHA-256 once decoded", model)
    for coding in ("int8-block64", "normal4-block64"):
        short = coding.split("-")[0]
        for name, word in (("infinite", 0x7C00), ("nan", 0x7E00), ("negative", 0xAC00), ("minus_zero", 0x8000)):
            why = f"a scale with the bits {word:04x}"
            yield fault(
                "coding",
                f"{short}_scale_{name}",
                SCALES,
                why,
                with_tensor(coding, "scales", scales_tensor([0x2C00, word])),
            )
        model = with_tensor(coding, "scales", scales_tensor([0x2C00, 0]))
        yield fault("coding", f"{short}_zero_scale", CODES, "a code beside a scale of zero", model)
        model = with_tensor(coding, "scales", scales_tensor([0x2C00, 0x7BFF]), "float16")
        model.recode(NAME, "codes", int8_tensor([0] * 64 + [-2]) if short == "int8" else nibbles([8] * 65))
        yield fault("coding", f"{short}_infinite_in_float16", NAME, "a value beyond float16", model)
        model = with_tensor(coding, "scales", scales_tensor([0x2C00, 0x6008]), "float16")
        model.recode(NAME, "codes", int8_tensor([0] * 64 + [127]) if short == "int8" else nibbles([8] * 64 + [15]))
        yield fault("coding", f"{short}_rounds_to_infinity", NAME, "65532, which float16 rounds up to infinity", model)
    codes = int8_tensor([0] * 64 + [-128])
    yield fault("coding", "int8_least", CODES, "the code -128", with_tensor("int8-block64", "codes", codes))
    half = nibbles([8] * 65 + [1])
    yield fault(
        "coding",
        "normal4_unused_half",
        CODES,
        "an unused half that is 1",
        with_tensor("normal4-block64", "codes", half),
    )
    for coding, words in (
        ("float16", {"infinite": 0x7C00, "nan": 0xFE00}),
        ("bfloat16", {"infinite": 0xFF80, "nan": 0x7F81}),
    ):
        for name, word in words.items():
            made = Tensor(coding, [5, 13], np.array([0] * 64 + [word], "<u2").tobytes())
            why = f"a code with the bits {word:04x}"
            yield fault("coding", f"{coding}_{name}", CODES, why, with_tensor(coding, "codes", made))
    for place, why in enumerate(("the first code is infinite", "the second code is infinite")):
        made = Tensor("float16", [5, 13], np.array([0] * place + [0x7C00] + [0] * (64 - place), "<u2").tobytes())
        yield fault("coding", f"float16_infinite_{place}", CODES, why, with_tensor("float16", "codes", made))
    right = stream(planes(tensor("float32", 5, 13).data, 4)).data
    broken: dict[str, tuple[str, bytes]] = {
        "short": ("a byte too few once decompressed", stream(bytes(259)).data),
        "long": ("a byte too many once decompressed", stream(bytes(261)).data),
        "bomb": ("a mebibyte where 260 bytes are due", as_stream(bytes.fromhex("789c") + deflated_zeros()).data),
        "trailing": ("a byte after the stream", right + b"\0"),
        "two_streams": ("a second stream after the first", right + stream(b"").data),
        "cut_off": ("a stream without its checksum", right[:-4]),
        "checksum": ("another checksum", right[:-1] + bytes([right[-1] ^ 1])),
        "header": ("no zlib header", b"\x1f\x8b" + right[2:]),
        "dictionary": ("a preset dictionary", b"\x78\x20" + bytes(4) + right[2:]),
        "block": ("a block of the kind that does not exist", right[:2] + bytes([right[2] | 6]) + right[3:]),
        "empty": ("one byte", b"\x78"),
        "damaged": ("a match that reaches before the data", FIXED[:2] + b"\x03\x02" + FIXED[4:]),
    }
    for name, (why, data) in broken.items():
        yield fault("coding", f"planes_{name}", CODES, why, with_tensor("planes-zlib", "codes", as_stream(data)))
    for name, (why, data) in deflate.invalid().items():
        model = Model(sequential(linear(1, 1)))
        model.seeded("0.weight", [1, 1])
        model.coded("0.bias", "float32", [1], "planes-zlib", stream(b"AAAA"), group="bias")
        model.recode("0.bias", "codes", as_stream(data))
        yield fault("coding", f"deflate_{name}", "0.bias.codes", why, model)
    model = Model(sequential())
    model.coded("mask", "bool", [4], "planes-zlib", stream(bytes([0, 1, 2, 1])), group="buffer")
    yield fault("bool", "planes", "mask", "a bool whose byte is 2 once decompressed", model)


def trellises() -> Iterator[Invalid]:
    """What decoding ``trellis8`` finds."""

    def fault(name: str, why: str, data: bytes, where: str = CODES) -> Invalid:
        model = coded("trellis8", "float16" if "float16" in name else "float32")
        model.recode(NAME, "codes", trellis.codes(data))
        return Invalid(f"contents_coding_trellis_{name}", why, "contents", "coding", where, model.file())

    seconds = trellis.quantisers(LEVELS)
    tables = [
        trellis.fitting([level for level, of in zip(LEVELS, seconds, strict=True) if of == second]) for second in (0, 1)
    ]
    states = trellis.body(LEVELS, [0] * 65, tables)
    right = trellis.head(0x3E00, tables) + states
    yield fault("order", "an order that does not exist", b"\2" + right[1:])
    yield fault("no_classes", "no class of rows", right[:1] + b"\0" + right[2:])
    yield fault("many_classes", "17 classes of rows", trellis.head(0x3E00, tables * 17, 0, [0] * 5) + states)
    for name, step in {"zero": 0, "negative": 0xBE00, "infinite": 0x7F80, "nan": 0x7FC0, "small": 0x0D7F}.items():
        yield fault(f"step_{name}", f"a step with the bits {step:04x}", trellis.head(step, tables) + states)
    yield fault("step_large", "a step above 2**100", trellis.head(0x7181, tables) + states)
    for name, why, table in (
        ("table_empty", "a table of no symbols", []),
        ("table_long", "a table of 105 symbols", [1944] + [1] * 104),
        ("table_sum", "shares that add up to 2047", [1, 2046]),
        ("table_large", "shares that add up to more than 2048", [2048, 1]),
        ("table_last", "a table whose last share is 0", [2048, 0]),
    ):
        yield fault(name, why, trellis.head(0x3E00, [table, tables[1]]) + states)
    yield fault("share_long", "a share of 1 in two bytes", bytes([0, 1, 0, 0x3E, 2, 0x81, 0, 0xFF, 15]) + states)
    yield fault("share_large", "a share of 2176", bytes([0, 1, 0, 0x3E, 1, 0x80, 17]) + states)
    yield fault(
        "class", "a row of a class that is not there", trellis.head(0x3E00, tables * 2, 0, [2] + [0] * 4) + states
    )
    unused = trellis.head(0x3E00, tables * 2, 0, [0] * 5 + [1]) + states
    yield fault("unused_half", "an unused half that is 1", unused)
    begin = len(right) - len(states)
    for name, state in {"low": 2**15 - 1, "high": 2**31}.items():
        yield fault(
            f"state_{name}", f"a state of {state}", right[:begin] + state.to_bytes(4, "little") + right[begin + 4 :]
        )
    other = (int.from_bytes(states[:4], "little") ^ 2**30).to_bytes(4, "little")
    yield fault("state_other", "a state that leads to another end", right[:begin] + other + right[begin + 4 :])
    yield fault("half_word", "half a word at the end", right + b"\0")
    yield fault("word_more", "a word after the last element", right + b"\0\0")
    yield fault("word_less", "a word too few", right[:-2])
    yield fault("cut_in_table", "the end within a table", right[:6])
    yield fault("cut_in_states", "the end within the states", right[: begin + 3])
    yield fault("cut_in_head", "one byte", b"\0")
    yield fault("beyond_float16", "a value beyond float16", trellis.head(0x4600, tables) + states, NAME)
    nothing = trellis.head(0x3E00, [[2048]] * 2) + (2**15).to_bytes(4, "little")
    embedding = "Embedding", {"num_embeddings": 0, "embedding_dim": 4, "padding_idx": None}
    model = Model(sequential(embedding))
    model.coded(NAME, "float32", [1, 4], "trellis8", trellis.codes(trellis.coded([0] * 4, [1, 4])))
    model.recode(NAME, "codes", trellis.codes(nothing))
    model.parameters[NAME]["shape"] = [0, 4]
    why = "a parameter without elements"
    yield Invalid("contents_coding_trellis_no_elements", why, "contents", "coding", NAME, model.file())
    model = coded_adapter()
    model.recode_adapter(NAME, "lora_A", "codes", trellis.codes(right))
    yield Invalid(
        "contents_coding_trellis_adapter",
        "the codes of 65 elements in an adapter's tensor of 13",
        "contents",
        "coding",
        "0.lora_A.codes",
        model.file(),
    )
    model = coded_adapter()
    model.parameters[NAME]["adapter"]["lora_A"]["sha256"] = "0" * 64
    yield Invalid(
        "contents_sha256_adapter_decoded",
        "a tensor of an adapter that decodes to other bytes",
        "contents",
        "sha256",
        "0.lora_A",
        model.file(),
    )

    model = Model(sequential(linear(13, 5, bias=False)))
    model.adapted(NAME, [5, 13], drawn={"lora_A": ("uniform16", 0.5)})
    model.parameters[NAME]["adapter"]["lora_A"]["coding"]["scale"] = 0.25
    yield Invalid(
        "contents_sha256_seeded_factor",
        "a factor of an adapter to which the seed gives other bytes",
        "contents",
        "sha256",
        "0.lora_A",
        model.file(),
    )


def deflated_zeros() -> bytes:
    """2**20 zeros in 6,674 bytes, with their checksum: a literal, then matches of 258 at distance 1."""
    bits = [1, 1, 0]  # the last block; fixed codes, low bit first
    bits += [0, 0, 1, 1, 0, 0, 0, 0]  # literal 0: the code 00110000, high bit first
    count = (2**20 - 1) // 258
    bits += ([1, 1, 0, 0, 0, 1, 0, 1] + [0] * 5) * count  # length 258: 11000101, then distance 1: 00000
    for _ in range(2**20 - 1 - 258 * count):
        bits += [0, 0, 1, 1, 0, 0, 0, 0]
    bits += [0] * 7  # the end of the block: 0000000
    bits += [0] * (-len(bits) % 8)
    data = bytes(sum(bit << j for j, bit in enumerate(bits[i : i + 8])) for i in range(0, len(bits), 8))
    # Adler-32 of n zeros: a = 1, b = n modulo 65521.
    return data + ((2**20 % 65521) << 16 | 1).to_bytes(4, "big")


GROUPS: tuple[Callable[[], Iterator[Invalid]], ...] = (descriptors, disagreements, contents, trellises)


def cases() -> Iterator[Invalid]:
    """All of them."""
    for group in GROUPS:
        yield from group()
