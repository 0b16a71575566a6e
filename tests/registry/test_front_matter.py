"""Updates change only the necessary keys of a person's front matter."""

import pytest
import yaml

from lottapack.pushing.front_matter import join, merged, split

PERSON = """\
# who may use it
license: mit  # for now

tags:  # many
- vision
- "digits"

# the end
language: en
"""


def test_a_card_is_split_and_joined_as_it_was() -> None:
    for card in (f"---\n{PERSON}---\n# Title\n", "---\n---\nbody", "---\nlicense: mit\n---"):
        block, body = split(card)
        assert block is not None
        assert join(block, body).rstrip("\n") == card.rstrip("\n")
    assert split("# Title\n\n---\nnot: front matter\n---\n")[0] is None
    assert split("---\nnever: closed\n")[0] is None
    assert split("") == (None, "")


def test_nothing_to_change_changes_nothing() -> None:
    assert merged(PERSON, {"license": "mit"}, {"tags": ["lottapack"], "language": "de"}) == PERSON


def test_a_missing_key_goes_to_the_end() -> None:
    assert merged(PERSON, {}, {"library_name": "lottapack"}) == PERSON + "library_name: lottapack\n"
    assert merged("", {}, {"tags": ["a", "b"]}) == "tags:\n- a\n- b\n"
    assert merged("license: mit", {}, {"tags": ["a"]}) == "license: mit\ntags:\n- a\n"


@pytest.mark.parametrize(
    ("key", "value", "gone"),
    [("license", "apache-2.0", 1), ("tags", ["x"], 3), ("language", "de", 1)],
)
def test_a_key_that_is_asked_for_is_replaced_and_the_rest_stays(key: str, value: object, gone: int) -> None:
    found = merged(PERSON, {key: value}, {})  # type: ignore[dict-item]
    assert found is not None
    assert yaml.safe_load(found) == {**yaml.safe_load(PERSON), key: value}
    lines = found.splitlines()
    assert sum(line not in lines for line in PERSON.splitlines()) == gone
    assert "# the end" in lines
    assert "# who may use it" in lines


def test_words_that_yaml_would_take_for_something_else_stay_words() -> None:
    found = merged("", {"license": "no", "metrics": ["1.0", "größe"]}, {})
    assert found is not None
    assert yaml.safe_load(found) == {"license": "no", "metrics": ["1.0", "größe"]}
    assert "größe" in found


def test_flow_style_is_written_out() -> None:
    found = merged("{license: mit, tags: [a]}\n", {"license": "x"}, {"library_name": "lottapack"})
    assert found is not None
    assert yaml.safe_load(found) == {"license": "x", "tags": ["a"], "library_name": "lottapack"}


@pytest.mark.parametrize(
    "block", ["license: [\n", "- a\n", "text\n", "license: &a mit\nother: *a\n", "a: b\na2: :\n  -"]
)
def test_what_cannot_be_kept_whole_is_left_alone(block: str) -> None:
    assert merged(block, {"license": "apache-2.0"}, {}) is None
