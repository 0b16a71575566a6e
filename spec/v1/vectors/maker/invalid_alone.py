"""Faults that one rule alone refuses: a reader that lacks it reads on, finds the bytes that are due, and accepts."""

from collections.abc import Iterator

import numpy as np

from . import deflate_codes, invalid_form, trellis
from .borders import BORDERED, borders
from .canonical import canonical
from .codings import as_stream, nibbles, scales_tensor, stream
from .invalid_descriptor import of_architecture
from .invalid_form import at
from .invalid_scaffolds import two
from .model import Model, linear, sequential
from .small import Invalid, small
from .tables import builtin

NAME = "0.weight"


def streams() -> Iterator[Invalid]:
    """DEFLATE streams."""
    yield from map(of_stream, deflate_codes.invalid().items())


def streams_later() -> Iterator[Invalid]:
    """More of them."""
    yield from map(of_stream, deflate_codes.later().items())


def of_stream(case: tuple[str, tuple[str, bytes, bytes]]) -> Invalid:
    """A pack with a stream: its name, why it is invalid, its bytes, and what a reader might find."""
    name, (why, data, given) = case
    count = len(given) // 4
    model = Model(sequential(linear(1, count)))
    model.seeded(NAME, [count, 1])
    model.coded("0.bias", "float32", [count], "planes-zlib", stream(given), group="bias")
    model.recode("0.bias", "codes", as_stream(data))
    return Invalid(f"contents_coding_deflate_{name}", why, "contents", "coding", "0.bias.codes", model.file())


def trellises() -> Iterator[Invalid]:
    """``trellis8``."""

    def fault(name: str, why: str, levels: list[int], shape: list[int], data: bytes) -> Invalid:
        rows, columns = trellis.matrix(shape)
        model = Model(sequential(linear(columns, rows, bias=False)))
        model.coded(NAME, "float32", shape, "trellis8", trellis.codes(trellis.coded(levels, shape)))
        model.recode(NAME, "codes", trellis.codes(data))
        return Invalid(f"contents_coding_trellis_{name}", why, "contents", "coding", f"{NAME}.codes", model.file())

    levels = [(7 * n) % 31 - 15 for n in range(65)]
    every = [1] * 105
    every[0] += 2048 - sum(every)
    data = trellis.head(0x3E00, [every, every]) + trellis.body(levels, [0] * 65, [every, every])
    yield fault("table_105", "a table of 105 symbols, of which the last is not used", levels, [5, 13], data)
    tables = [[1, *[136] * 15, 7]] * 2
    right = trellis.head(0x3E00, tables)
    assert right[5] == 1
    long = right[:5] + b"\x81\0" + right[6:] + trellis.body(levels, [0] * 65, tables)
    yield fault("share_two_bytes", "a share of 1 in two bytes", levels, [5, 13], long)
    for total in (2047, 2049):
        tables = [[64, *[128] * 15, total - 64 - 15 * 128]] * 2
        data = trellis.head(0x3E00, tables) + trellis.body(levels, [0] * 65, tables)
        yield fault(f"table_of_{total}", f"shares that add up to {total:,}, none of them missed", levels, [5, 13], data)
    zeros = trellis.head(0x3E00, [[2048]] * 2)
    state = (0).to_bytes(4, "little") + (2**15).to_bytes(2, "little")
    yield fault("state_zero", "a state of 0, and a word that makes it 2**15", [0], [1, 1], zeros + state)
    for name, share in (("2_31", 64), ("above", 50)):
        tables = [[share, 2048 - share]] * 2 + [[1, 2047]] * 2
        frequency, after = 2 * share, 2**15 // 2 * 4096
        number = after // frequency * 4096 + after % frequency
        data = trellis.head(0x3E00, tables, 0, [0, 1]) + number.to_bytes(4, "little")
        yield fault(f"state_{name}", f"a state of {number:,} that a word would make smaller", [0, 0], [2, 1], data)


def architectures() -> Iterator[Invalid]:
    """Children of a Sequential."""
    child = "architecture.config.children[0]"
    for name, where, wrong in (
        ("name_number", f"{child}.name", {"name": 0, "class": "Tanh", "config": {}}),
        ("name_number_1", f"{child}.name", {"name": 1, "class": "Tanh", "config": {}}),
        ("array", child, ["name", "class", "config"]),
        ("string", child, "name"),
    ):
        tree = sequential(("Tanh", {}))
        tree["config"]["children"] = [wrong]
        yield of_architecture(f"child_{name}", where, "a child or its name has another type", tree)


def entries() -> Iterator[Invalid]:
    """Parameters."""
    model = Model(sequential())
    model.adapted("e.weight", [4, 4, 4], rank=3, batch_dims=1)
    model.adapted("f.weight", [4, 3], rank=2, drawn={"lora_A": ("sign1", 1.0)})
    model.parameters["f.weight"]["adapter"]["lora_A"]["coding"] = {"id": "slice", "of": "e.weight"}
    of = at("f.weight", "adapter.lora_A.coding.of")
    yield invalid_form.fault("slice_of_batch", "shape", of, "an owner that is a large batch of matrices", model.file())
    model = Model(sequential())
    model.adapted("e.weight", [4, 4], rank=3)
    model.adapted("f.weight", [1, 4, 3], rank=2, batch_dims=1, drawn={"lora_A": ("sign1", 1.0)})
    model.parameters["f.weight"]["adapter"]["lora_A"]["coding"] = {"id": "slice", "of": "e.weight"}
    yield invalid_form.fault("slice_in_batch", "shape", of, "a batch of matrices with a slice", model.file())
    model = Model(sequential())
    model.constant("__metadata__", [1], "uint8", "01")
    why = "the only parameter is called as what is no tensor"
    yield Invalid("agreement_two_roles_metadata_alone", why, "agreement", "two-roles", "__metadata__", model.file())


def descriptors() -> Iterator[Invalid]:
    """Parts that are missing or have another type, and the parts beside a fault."""
    for field in ("architecture", "rng", "parameters"):
        made = invalid_form.changed(invalid_form.drop(field))
        yield invalid_form.fault(f"without_{field}", "field", "descriptor", f"a descriptor without {field}", made)
    for name, text in (("array", b'["lottapack"]'), ("string", b'"1.0"'), ("number", b"1.0"), ("null", b"null")):
        made = small().file(text)
        yield invalid_form.fault(f"is_{name}", "field", "descriptor", f"a descriptor that is {name}", made)
    model = two()
    model.parameters["2.bias"]["role"] = "constants"
    place, why = at("2.bias", "role"), "a role that does not exist, in a pack with two scaffolds"
    yield invalid_form.fault("role_and_scaffolds", "id", place, why, model.file())


def limits() -> Iterator[Invalid]:
    """The longest side."""
    model = Model(sequential())
    model.constant("w", [1, 1], "float32", "3f800000")
    entry = {"role": "seeded", "dtype": "bfloat16", "distribution": "hadamard", "scale": 1.0, "fingerprint": "0" * 16}
    model.parameters["w"] = entry | {"shape": [2**29, 1]}
    why = "hadamard with a side of 2**29, the longest; a model of 1 GiB where 1 MiB is allowed"
    yield Invalid("limit_hadamard_side", why, "limit", "limit", "parameters", model.file(), 2**20)


def types() -> Iterator[Invalid]:
    """Values of another type, which begin like the right one or hold it."""
    places = (
        ("architecture", "architecture"),
        ("rng", "rng"),
        ("parameters", "parameters"),
        ("tables", "rng.tables"),
        ("files", "files"),
        ("computed", "computed"),
        ("provenance", "provenance"),
    )
    for field, place in places:
        for name, value in (("string", "a b"), ("array", [["id"]]), ("number", 12.5)):
            made = invalid_form.changed(invalid_form.put(place.replace(".", "/"), value))
            yield invalid_form.fault(f"{field}_is_{name}", "field", place, f"{field} that is no object", made)
    table = 'rng.tables["own"]'
    for name, value in (("string", "own"), ("array", [2]), ("number", 2)):
        made = invalid_form.changed(invalid_form.put("rng/tables/own", value))
        yield invalid_form.fault(f"table_is_{name}", "field", table, "a table's entry that is no object", made)
    for name, digits in (("upper_case", "A" * 64), ("short", "0" * 63)):
        made = invalid_form.changed(invalid_form.put("rng/tables/own/sha256", digits))
        where, why = f"{table}.sha256", "a table's hash in capitals, or too short"
        yield invalid_form.fault(f"table_hash_{name}", "field", where, why, made)
    for name, value in (("string", "task-b"), ("array", [["task-b"]]), ("number", 1)):
        model = two()
        model.descriptor["rng"]["scaffolds"] = value
        yield invalid_form.fault(f"scaffolds_is_{name}", "field", "rng.scaffolds", "no object", model.file())
    model = two()
    prints = model.descriptor["rng"]["scaffolds"]["task-b"]["fingerprints"]
    prints["0.weight"] = [1234567890123456]
    place = 'rng.scaffolds["task-b"].fingerprints["0.weight"]'
    why = "a fingerprint that is an array of a number of 16 digits"
    yield invalid_form.fault("fingerprint_is_array", "field", place, why, model.file())
    model = two()
    del model.descriptor["parameters"]
    why = "two scaffolds, and no parameters"
    yield invalid_form.fault("without_parameters_scaffolds", "field", "descriptor", why, model.file())
    model = two()
    model.descriptor["parameters"] = [["0.weight"]]
    why = "two scaffolds, and parameters in an array"
    yield invalid_form.fault("parameters_is_array_scaffolds", "field", "parameters", why, model.file())


def texts() -> Iterator[Invalid]:
    """A number that is not in its canonical form, in an entry without another float."""
    model = Model(sequential(linear(2, 2, bias=False)))
    model.seeded(NAME, [2, 2])
    text = canonical(model.descriptor)
    assert text.count(b'"scale":0.5,') == 1
    made = model.file(text.replace(b'"scale":0.5,', b'"scale":0.50,'))
    yield invalid_form.fault("scale_digits", "canonical", "descriptor", "a scale with a digit too many", made)


def headers() -> Iterator[Invalid]:
    """The descriptor's string in the header."""
    for number in (0x01, 0x1F):
        model = small()
        text = canonical(model.descriptor).replace(b'"vectors"', b'"vec%ctors"' % number)
        data = model.file(text)
        size = int.from_bytes(data[:8], "little")
        header = data[8 : 8 + size].rstrip(b" ").replace(b"\\u00%02x" % number, bytes([number]))
        padded = header + b" " * (-len(header) % 8)
        made = len(padded).to_bytes(8, "little") + padded + data[8 + size :]
        why = f"the control character {number:02x} as it is, in the descriptor's string"
        yield Invalid(f"container_json_control_{number:02x}", why, "container", "json", "header", made)


def tables() -> Iterator[Invalid]:
    """A table of ``trellis8`` with a symbol too many."""
    levels = [(7 * n) % 31 - 15 for n in range(65)]
    given = [[*[128] * 16, 0]] * 2
    model = Model(sequential(linear(13, 5, bias=False)))
    model.coded(NAME, "float32", [5, 13], "trellis8", trellis.codes(trellis.coded(levels, [5, 13])))
    model.recode(NAME, "codes", trellis.codes(trellis.head(0x3E00, given) + trellis.body(levels, [0] * 65, given)))
    why, where = "a table whose last share is 0, and all others are right", f"{NAME}.codes"
    yield Invalid("contents_coding_trellis_share_last", why, "contents", "coding", where, model.file())


def scales() -> Iterator[Invalid]:
    """Scales that are just too small or too large, and scales of tables that say nothing of them."""

    def fault(name: str, why: str, dtype: str, table: str, scale: float) -> Invalid:
        model = Model(sequential(linear(2, 2, bias=False)))
        model.table("zeros", 1, [0, 0])
        with np.errstate(all="ignore"):
            model.seeded(NAME, [2, 2], dtype, table, scale)
        return invalid_form.fault(name, "scale", at(NAME, "scale"), why, model.file())

    for table in BORDERED:
        low, high = borders(builtin(table))
        below = float(np.nextafter(low, np.float32(0)))
        yield fault(f"{table}_small", "a product that is just subnormal", "float32", table, below)
        if high < np.finfo(np.float32).max:
            above = float(np.nextafter(high, np.float32(np.inf)))
            yield fault(f"{table}_large", "a product that is just infinite", "float32", table, above)
    tie = 2.0**128 - 2.0**119
    yield fault("bfloat16_tie", "a product that bfloat16 just rounds up", "bfloat16", "sign1", tie)
    for name, scale in (("zero", 0.0), ("negative", -1.0)):
        yield fault(f"{name}_of_zeros", "a scale of a table of zeros", "float32", "zeros", scale)
    model = small()
    model.table("bad", 2, [0x80000001, 0xBF800000, 0x3F000000, 0x3F800000])
    why, where = "a subnormal number as the first entry", "lottapack.tables.bad"
    yield Invalid("agreement_table_first", why, "agreement", "table", where, model.file())


def last() -> Iterator[Invalid]:
    """A table whose largest entry is the first, a long name, and codes beside a scale of zero."""
    model = Model(sequential(linear(2, 2, bias=False)))
    model.table("falling", 2, [0x40000000, 0xBF800000, 0x3F000000, 0x3E800000])
    with np.errstate(all="ignore"):
        model.seeded(NAME, [2, 2], "float16", "falling", 40000.0)
    why = "a product with the first entry of the pack's own table that is infinite in float16"
    yield invalid_form.fault("first_of_own", "scale", at(NAME, "scale"), why, model.file())
    long = "\uffff\U00010000" * 75
    model = Model(sequential())
    model.constant(long, [1], "float32", "3f800000")
    model.parameters[long]["role"] = "constants"
    why = "a role that does not exist, of a parameter with a long name outside ASCII"
    yield invalid_form.fault("role_of_long", "id", at(long[:97] + "...", "role"), why, model.file())
    for place, name in ((0, "low"), (1, "high")):
        model = Model(sequential(linear(13, 5, bias=False)))
        right, halves = nibbles([8] * 65), scales_tensor([0, 0x2C00])
        model.coded(NAME, "float32", [5, 13], "normal4-block64", right, halves)
        model.recode(NAME, "codes", nibbles([8] * place + [9] + [8] * (64 - place)))
        why, where = f"the code 9 in a {name} half, beside a scale of zero", f"{NAME}.codes"
        made = model.file()
        yield Invalid(f"contents_coding_normal4_nine_{name}", why, "contents", "coding", where, made)


def versions() -> Iterator[Invalid]:
    """A descriptor without a version."""
    model = small()
    text = b"".join(canonical(model.descriptor).split(b'"lottapack":"1.0",', 1))
    yield invalid_form.fault("missing", "version", "lottapack", "no version", model.file(text))


def cases() -> Iterator[Invalid]:
    """All of them."""
    for group in (
        streams,
        trellises,
        architectures,
        entries,
        descriptors,
        limits,
        streams_later,
        types,
        texts,
        headers,
        tables,
        scales,
        last,
        versions,
    ):
        yield from group()
