"""The check of canonical JSON and its views, against Python's parser on random texts."""

import json
import random
import re

import pytest

from lottapack.format import canonical
from lottapack.format.collect import kind_of
from lottapack.strict_json import patterns as jsonpatterns
from lottapack.strict_json.check import MAX_KEY, JsonFaultError, check
from lottapack.strict_json.text import JsonText

TEXTS = ["", "a", "role", "\x1f", 'a "quote"', "\\", "é", "層🎲", "\u2028", "tab\t", "x-note", "\\u0041", "/"]
NUMBERS = [
    0,
    -1,
    10,
    2**53 - 1,
    1 - 2**53,
    10**15,
    0.0,
    -0.0,
    1.0,
    0.1,
    1e16,
    1e-5,
    1.5e300,
    5e-324,
    1.2345678901234568e17,
]
PIECES = [b"", b" ", b"\n", b",", b'"', b"\\", b"0", b".5", b"e5", b"-", b"{", b"]", b"\xff", b"\\u00e9", b"\\/", b":"]
ENTRIES = [
    {"data_offsets": [0, 16], "dtype": "F32", "shape": [4]},
    {"role": "tied", "to": 'a "b"'},
    {"role": "seeded", "shape": [], "dtype": "float16", "distribution": "sign1", "scale": 0.1, "fingerprint": "0" * 16},
    {"role": "stored", "shape": [2, 3], "dtype": "int8", "group": "head", "trained": True, "sha256": "0" * 64},
    {"role": "constant", "shape": [1], "dtype": "bool", "value": "00"},
]


def value(chance: random.Random, depth: int = 0) -> object:
    kind = chance.randrange(9 if depth < 7 else 6)
    if kind < 2:
        return chance.choice(TEXTS) * chance.choice([1, 1, 1, 40])
    if kind < 4:
        return chance.choice(NUMBERS)
    if kind < 6:
        return chance.choice([None, True, False, *ENTRIES])
    if kind < 7:
        return [value(chance, depth + 1) for _ in range(chance.randrange(5))]
    return {chance.choice(TEXTS) + chance.choice("abc"): value(chance, depth + 1) for _ in range(chance.randrange(6))}


def is_canonical(text: bytes) -> bool:
    """By making all of it and writing it again."""

    def finite(_: str) -> None:
        raise ValueError

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError
        return dict(pairs)

    def integers(of: object) -> list[int]:
        inside = of.values() if isinstance(of, dict) else of if isinstance(of, list) else []
        return [of] if type(of) is int else [number for item in inside for number in integers(item)]

    try:
        found = json.loads(text.decode(), parse_constant=finite, object_pairs_hook=unique)
        written = canonical.dumps(found)
    except ValueError:
        return False
    return written == text and all(abs(number) < 2**53 for number in integers(found))


def accepts(text: bytes) -> bool:
    try:
        check(text)
    except JsonFaultError:
        return False
    return True


def test_it_accepts_what_is_written_and_nothing_else():
    chance = random.Random(3)
    accepted = refused = 0
    for _ in range(3000):
        text = canonical.dumps(value(chance))
        assert accepts(text), text
        place = chance.randrange(len(text))
        changed = text[:place] + chance.choice(PIECES) + text[place + chance.randrange(3) :]
        assert accepts(changed) == is_canonical(changed), changed
        accepted += accepts(changed)
        refused += not accepts(changed)
    assert accepted > 200
    assert refused > 1000


def made(view: JsonText) -> object:
    """The value of a view, by its members and items."""
    if view.is_object:
        return {key: made(item) for key, item in view.members()}
    if view.is_array:
        return [made(item) for item in view.items()]
    if view.is_string:
        assert view.string_bytes().decode() == view.value()
    return view.value()


def steps(found: object, way: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The way to every member and item, outer ones first."""
    inside = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    return [one for step, item in inside for one in ((*way, step), *steps(item, (*way, step)))]


def test_views_give_the_same_values():
    chance = random.Random(4)
    for _ in range(1500):
        text = canonical.dumps(value(chance))
        view, due = JsonText(text), json.loads(text)
        assert repr(made(view)) == repr(due)
        assert view.kind == kind_of(due)
        assert view.is_integers == (isinstance(due, list) and all(type(item) is int for item in due))
        if not any("" in way for way in steps(due)):  # which is what an item has in the place of a key
            assert [(*way, key) if key else tuple(way) for key, way in view.every_key()] == steps(due)


@pytest.mark.parametrize(
    "text", ['"' * 50_000, "\\" * 50_001, "\x01\n" * 40_000, "é" * 70_001, '🎲\\"' * 30_000, "a" * 200_000]
)
def test_long_strings_are_made_in_pieces_and_are_the_same(text):
    assert JsonText(canonical.dumps(text)).string_bytes() == text.encode()


@pytest.mark.parametrize("depth", [4, 5, 6, 30, 63])
def test_containers_are_found_at_any_depth(depth):
    inner = [[], {"]": "}"}, [0, [1]], {}]
    for level in range(depth):
        inner = [inner, level, "["] if level % 3 else {"a": inner, "b": [[[]]]}
    text = canonical.dumps([0, inner, inner, "end"])
    assert [made(item) for item in JsonText(text).items()] == json.loads(text)


def test_an_entry_whose_float_is_not_the_shortest_is_refused():
    entry = canonical.dumps({"a": ENTRIES[2]}).decode()
    for number, kind in (("0.10", "canonical"), ("0.1000000000000000055", "canonical"), ("00.1", "json")):
        with pytest.raises(JsonFaultError) as caught:
            check(entry.replace("0.1", number).encode())
        assert caught.value.kind == kind


def test_a_key_may_be_so_long():
    check(b'{"%b":0}' % (b"k" * MAX_KEY))
    with pytest.raises(JsonFaultError, match="a key of more than 8,192 bytes"):
        check(b'{"%b":0}' % (b"k" * (MAX_KEY + 1)))


def test_no_possessive_group_can_fail_in_its_middle() -> None:
    """Python before 3.11.5 then goes on from that middle; newer ones would not notice that a group lacks its end."""
    patterns = [found for found in vars(jsonpatterns).values() if isinstance(found, re.Pattern)]
    quantified = re.compile(rb"(.)\)(?:[*+?]|\{[0-9,]+\})\+")
    groups = [found[1] for pattern in patterns for found in quantified.finditer(pattern.pattern)]
    assert groups
    assert set(groups) == {b"|"}
