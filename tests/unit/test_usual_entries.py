"""Usual entries are read many at once; unusual ones by themselves. Both ways give the same records and problems."""

import io
import itertools
import json
import random
import struct

import msgspec
import pytest
from mutation import mutated
from spec_files import files

import lottapack
from lottapack.format import canonical, container, entries, expected, validate
from lottapack.format.descriptor import Parameter
from lottapack.format.packfile import open_pack
from lottapack.strict_json import rewritten
from lottapack.strict_json.check import MAX_KEY

VALID = {name: found[0] for name, found in files("valid").items()}


def opened(path):
    with open_pack(path) as pack:
        return pack.descriptor, pack.tensors


def read_one_by_one(monkeypatch):
    monkeypatch.setattr(validate, "usual_fields", lambda _: None)
    monkeypatch.setattr(container, "_usual", lambda *_: None)


@pytest.mark.parametrize("name", VALID)
def test_both_ways_give_the_same_records(name, monkeypatch):
    usual = opened(VALID[name])
    read_one_by_one(monkeypatch)
    one_by_one = opened(VALID[name])
    assert usual == one_by_one
    assert [*usual[0].parameters] == [*one_by_one[0].parameters]
    assert [*usual[1]] == [*one_by_one[1]]


def test_the_usual_way_is_taken(monkeypatch):
    """So that the test above compares two ways."""
    monkeypatch.setattr(validate, "read_parameters", lambda *_: pytest.fail("read by themselves"))
    monkeypatch.setattr(container, "_contents", lambda *_: pytest.fail("read by itself"))
    opened(VALID["every_role"])


def changed(change) -> bytes:
    with VALID["every_role"].open("rb") as file:
        value = json.loads(container.read_header(file, "every_role").descriptor)
    change(value["parameters"])
    return canonical.dumps(value)


def of_role(parameters, role):
    return next(entry for entry in parameters.values() if entry["role"] == role)


CHANGES = {
    "an integer scale": lambda p: of_role(p, "seeded").update(scale=1),
    "an integer alpha": lambda p: of_role(p, "adapted").update(alpha=16),
    "another field": lambda p: of_role(p, "stored").update(more=1),
    "an unknown role": lambda p: of_role(p, "stored").update(role="kept"),
    "a missing role": lambda p: of_role(p, "seeded").pop("role"),
    "a float in a shape": lambda p: of_role(p, "stored").update(shape=[4.0]),
    "a large entry": lambda p: of_role(p, "stored").update(shape=[1] * 20_000),
    "many dimensions": lambda p: of_role(p, "stored").update(shape=[1] * 9),
    "a wrong digest": lambda p: of_role(p, "stored").update(sha256="0" * 63),
    "a tie to nothing": lambda p: of_role(p, "tied").update(to="absent"),
    "a control character": lambda p: p.update({"a\nb": of_role(p, "seeded")}),
    "null": lambda p: p.update(a=None),
    "a scale beyond the dtype": lambda p: of_role(p, "seeded").update(scale=1e39),
    "a rank too large": lambda p: of_role(p, "adapted").update(rank=10_000),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_both_ways_find_the_same_problems(change, monkeypatch):
    data = changed(change)
    problems = []
    for _ in range(2):
        with pytest.raises(lottapack.errors.DescriptorError) as error:
            validate.parse(data, "x")
        problems.append(str(error.value))
        read_one_by_one(monkeypatch)
    assert problems[0] == problems[1]


def answer(data: bytes) -> str:
    """Return what the header and the descriptor of a pack hold, in their order, or the refusal."""
    try:
        header = container.read_header(io.BytesIO(data), "x")
        return repr((header.tensors, validate.parse(header.descriptor, "x")))
    except lottapack.errors.FormatError as error:
        return f"refused: {error}"


@pytest.mark.slow
def test_both_ways_agree_on_changed_packs(monkeypatch):
    packs = [found[0].read_bytes() for folder in ("valid", "invalid") for found in files(folder).values()]
    small = [pack for pack in packs if len(pack) < 20_000]
    chance = random.Random(3)
    changed_packs = [mutated(chance.choice(small), chance.randrange(2**32)) for _ in range(1500)]
    cases = [*small, *filter(None, changed_packs)]
    usual = [answer(case) for case in cases]
    read_one_by_one(monkeypatch)
    differing = [(case, one, other) for case, one in zip(cases, usual, strict=True) if one != (other := answer(case))]
    assert not differing, differing[0]
    refused = sum(one.startswith("refused") for one in usual)
    assert min(refused, len(cases) - refused) > 200


def test_a_shared_factor_of_a_weight_without_dimensions_is_refused():
    """The entries that share are compared although one of them is refused for its shape."""
    path, _ = files("valid")["vera"]
    with path.open("rb") as file:
        value = json.loads(container.read_header(file, "vera").descriptor)
    for name, entry in value["parameters"].items():
        data = canonical.dumps({**value, "parameters": value["parameters"] | {name: {**entry, "shape": []}}})
        with pytest.raises(lottapack.errors.DescriptorError, match="two or more dimensions"):
            validate.parse(data, "x")


def test_a_field_for_others_is_left_out():
    data = changed(lambda p: of_role(p, "stored").update({"x-note": [1, {"a": 2}]}))
    assert validate.parse(data, "x").parameters == validate.parse(changed(lambda _: None), "x").parameters


def test_floats_are_read_to_the_last_bit():
    """As Python reads them: their text is the shortest that gives these bits."""
    chance = random.Random(1)
    scales = [struct.unpack("<d", struct.pack("<Q", chance.getrandbits(64)))[0] for _ in range(30_000)]
    scales = [scale for scale in scales if scale == scale and abs(scale) != float("inf")]
    texts = [
        json.dumps({"role": "seeded", "dtype": "", "distribution": "", "fingerprint": "", "shape": [], "scale": s})
        for s in scales
    ]
    text = "{" + ",".join(f'"{n}":{text}' for n, text in enumerate(texts)) + "}"
    found = msgspec.json.decode(text.encode(), type=dict[str, Parameter])
    assert [entry.scale.hex() for entry in found.values()] == [scale.hex() for scale in scales]


PIECES = [
    b"",
    b" ",
    b",",
    b'"',
    b"\\",
    b"0",
    b".5",
    b"e5",
    b"-",
    b"{",
    b"}",
    b"]",
    b"\xff",
    b"\x01",
    b"\\u00e9",
    b":",
    b"1",
]
CHANCE = random.Random(7)


def edited(text: bytes, at: int | None = None) -> bytes:
    at = CHANCE.randrange(len(text)) if at is None else at
    return text[:at] + CHANCE.choice(PIECES) + text[at + CHANCE.randrange(3) :]


def outcome(read, *given):
    try:
        return read(*given)
    except lottapack.LottapackError as error:
        return type(error), str(error)


def same_both_ways(monkeypatch, read, texts):
    """Return how many texts are accepted."""
    usual = [outcome(read, text) for text in texts]
    with monkeypatch.context() as patch:
        read_one_by_one(patch)
        assert usual == [outcome(read, text) for text in texts]
    return sum(not (isinstance(one, tuple) and isinstance(one[0], type)) for one in usual)


def test_both_ways_agree_on_texts_that_were_changed_anywhere(monkeypatch):
    text = changed(lambda _: None)
    accepted = same_both_ways(monkeypatch, lambda data: validate.parse(data, "x"), [edited(text) for _ in range(600)])
    assert accepted > 10


HEADERS = [VALID[name].read_bytes() for name in ("every_role",)]


def header_of(text: bytes, file: bytes) -> container.Header:
    length = 8 + int.from_bytes(file[:8], "little")
    text += b" " * (-len(text) % 8)
    made = container.read_header(io.BytesIO(len(text).to_bytes(8, "little") + text + file[length:]), "x")
    return made.tensors, made.descriptor, made.data_start


def test_both_ways_agree_on_headers_that_were_changed_anywhere(monkeypatch):
    for file in HEADERS:
        text = file[8 : 8 + int.from_bytes(file[:8], "little")].rstrip(b" ")
        whole = json.loads(text)
        del whole["__metadata__"]
        begins = [text.index(b'"%b":{"d' % name.encode()) for name in whole]
        texts = [edited(text) for _ in range(100)]
        texts += [edited(text, CHANCE.choice(begins) + CHANCE.randrange(99)) for _ in range(400)]
        same_both_ways(monkeypatch, lambda data, file=file: header_of(data, file), [text, *texts])


def nested(depth: int) -> object:
    return [nested(depth - 1)] if depth else 0


TEXTS = {
    "a float of msgspec's": lambda text: text.replace(b'"scale":0.5', b'"scale":0.00001', 1),
    "a small float": lambda text: text.replace(b'"scale":0.5', b'"scale":1e-05', 1),
    "a long key": lambda text: text.replace(b'"parameters":{', b'"parameters":{"%b":0,' % (b"A" * (MAX_KEY + 1))),
    "a key twice": lambda text: text.replace(b'"provenance":{', b'"provenance":{},"provenance":{'),
    "a field twice": lambda text: text.replace(b'"rank":', b'"rank":2,"rank":', 1),
    "more text": lambda text: text + b"{}",
    "nothing": lambda _: b"",
    "deep": lambda _: b"[" * 100_000,
    "many digits": lambda text: text.replace(b'"rank":', b'"rank":' + b"1" * 5000, 1),
    "a lone surrogate": lambda text: text.replace(b'"provenance":{', b'"provenance":{"\\ud800":"",'),
    "no UTF-8": lambda text: text.replace(b'"provenance":{', b'"provenance":{"\xed\xa0\x80":"",'),
}


@pytest.mark.parametrize("change", TEXTS.values(), ids=TEXTS)
def test_both_ways_agree_on_texts_that_msgspec_reads_otherwise(change, monkeypatch):
    text = changed(lambda p: of_role(p, "seeded").update(scale=0.5))
    assert change(text) != text
    same_both_ways(monkeypatch, lambda data: validate.parse(data, "x"), [change(text)])


VALUES = {
    "a dimension of 2**53 beside 0": lambda v: of_role(v["parameters"], "constant").update(shape=[0, 2**53]),
    "a dimension of 2**53 - 1 beside 0": lambda v: of_role(v["parameters"], "constant").update(shape=[0, 2**53 - 1]),
    "62 levels": lambda v: v["architecture"]["config"].update(a=nested(60)),
    "64 levels": lambda v: v["architecture"]["config"].update(a=nested(61)),
    "65 levels": lambda v: v["architecture"]["config"].update(a=nested(62)),
    "another version": lambda v: v.update(lottapack="2.0"),
    "an unknown field": lambda v: v.update(more=1),
    "a field for others": lambda v: v.update({"x-more": 1}),
    "names beyond U+FFFF": lambda v: v["parameters"].update(
        {name: of_role(v["parameters"], "constant") for name in ("\uffee", "\U0001f3b2", "é")}
    ),
}


@pytest.mark.parametrize("change", VALUES.values(), ids=VALUES)
def test_both_ways_agree_on_values_at_limits(change, monkeypatch):
    value = json.loads(changed(lambda _: None))
    change(value)
    same_both_ways(monkeypatch, lambda data: validate.parse(data, "x"), [canonical.dumps(value)])


def test_the_order_of_keys_is_that_of_code_points():
    names = sorted(map(chr, [*range(32, 0x250), 0xD7FF, *range(0xE000, 0x10FFFF, 4999), 0xFFFF, 0x10000]))
    names += [name + end for name in names for end in "\x1fa"]
    text = canonical.dumps(dict.fromkeys(names, 0))
    found = msgspec.json.decode(text)
    assert rewritten.behind_object(b"[" + text + b"]", 1, found) == len(text) + 1
    swapped = [*found]
    swapped[1023:1025] = reversed(swapped[1023:1025])  # in two pieces
    members = dict.fromkeys(swapped, 0)
    text = json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()
    assert rewritten.behind_object(text, 0, members) == -1


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 2048, 2049])
def test_an_object_is_written_again_in_pieces(count):
    members = {f"{number:05d}": number for number in range(count)}
    text = canonical.dumps(members)
    assert rewritten.behind_object(text, 0, members) == len(text)
    for wrong in (text[:-1], text[:-1] + b",", b"[" + text[1:], text[1:]):
        assert rewritten.behind_object(wrong, 0, members) == -1


def test_a_number_is_canonical_where_both_write_it_alike():
    assert all(map(rewritten.is_canonical, (0.0, -0.0, 1.0, 0.1, 1e-4, 123456789.5, 9e15, 2**53 - 1, 1 - 2**53)))
    assert not any(map(rewritten.is_canonical, (1e16, 1e-5, 1.5e300, 2**53, -(2**53))))


def test_names_that_cannot_clash_do_not():
    """The quick answer is right for all small sets of names that are built from each other's parts."""
    stems = [
        "w",
        "a.weight",
        "a.b",
        "weight",
        "a.",
        "beta",
        "a.beta",
        "lora_A.codes",
        "w.codes",
        "a.b_lora_A",
        "w_beta",
    ]
    value = json.loads(changed(lambda _: None))
    roles = [of_role(value["parameters"], role) for role in ("adapted", "stored", "constant")]
    quick = 0
    for names in itertools.combinations(stems, 2):
        for entries_of in itertools.product(roles, repeat=2):
            value["parameters"] = dict(zip(names, entries_of, strict=True))
            descriptor = validate.parse(canonical.dumps(value), "x")
            if not any(map(expected._may_clash, names)):
                quick += 1
                derived = ((one.name, one.owner) for one in expected.expected_tensors(descriptor) if not one.is_whole)
                adapted = [name for name, entry in descriptor.parameters.items() if entries.Adapted is type(entry)]
                assert dict(expected.clashes(descriptor.parameters, derived, adapted)) == {}
    assert quick == 90
