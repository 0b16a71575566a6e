"""Usual entries are read many at once; unusual ones by themselves. Both ways give the same records and problems."""

import json
import random
import struct

import pytest
from spec_files import files

import lottapack
from lottapack.format import canonical, container, entries, validate
from lottapack.format.packfile import open_pack

VALID = {name: found[0] for name, found in files("valid").items()}


def opened(path):
    with open_pack(path) as pack:
        return pack.descriptor, pack.tensors


@pytest.mark.parametrize("name", VALID)
def test_both_ways_give_the_same_records(name, monkeypatch):
    usual = opened(VALID[name])
    monkeypatch.setattr(entries, "_usual", lambda *_: None)
    monkeypatch.setattr(container, "_usual", lambda *_: None)
    one_by_one = opened(VALID[name])
    assert usual == one_by_one
    assert [*usual[0].parameters] == [*one_by_one[0].parameters]
    assert [*usual[1]] == [*one_by_one[1]]


def test_the_usual_way_is_taken(monkeypatch):
    """So that the test above compares two ways."""
    monkeypatch.setattr(entries, "_read", lambda *_: pytest.fail("read by itself"))
    monkeypatch.setattr(container, "_entry_fault", lambda *_: pytest.fail("read by itself"))
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
        monkeypatch.setattr(entries, "_usual", lambda *_: None)
    assert problems[0] == problems[1]


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
    found = entries._decoder.decode(("{" + ",".join(f'"{n}":{text}' for n, text in enumerate(texts)) + "}").encode())
    assert [entry.scale.hex() for entry in found.values()] == [scale.hex() for scale in scales]
