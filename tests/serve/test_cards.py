"""Cards: whatever front matter someone commits, listings stay complete and valid JSON."""

import json

import pytest
from effort import at_most
from hypothesis import given, settings
from hypothesis import strategies as st
from serve_runs import add, ask, commit_body

from lottapack_serve import cards

REPO = "/api/models/org/digits"

UNREADABLE = {
    "KeyError": "x: !!bool foo",
    "IndexError": 'x: !!int ""',
    "AttributeError": "x: !!timestamp foo",
    "OverflowError": "x: 1" + ":59" * 250 + ".5",
    "half a character": 'x: "\\uD800"',
    "half a character in a tag": 'tags: ["\\uDC00"]',
    "half a character in a name": '"\\uDC00": 1',
    "not a number": "x: [.nan]",
    "infinite": "x: -.inf",
    "list as a name": "? [a]\n: x",
    "more than 64 bits": "x: 9223372036854775808",
    "a very large number": "x: 0x" + "f" * 60_000,
    "base 60": "x: 1" + ":59" * 20_000,
    "binary": "x: !!binary aGk=",
    "an alias": "a: &a 1\nb: *a",
    "two documents": "a: 1\n--- b\nb: 2",
    "deep": "x: " + "[" * 30_000,
    "deep in names": "x: " + "{? " * 15_000,
    "many values": "x: [" + "a," * 32_000 + "]",
    "code": "x: !!python/object/apply:os.system [id]",
}
READABLE = {
    "a bad date": ("date: 2024-13-45", {"date": "2024-13-45"}),
    "a good date": ("date: 2024-01-01", {"date": "2024-01-01"}),
    "a number as a name": ("1: x", {"1": "x"}),
    "a set": ("x: !!set {b, a}", {"x": ["a", "b"]}),
    "64 bits": ("x: -9223372036854775808", {"x": -(2**63)}),
    "an emoji in two halves": ('x: "\\uD83D\\uDE00"', None),  # YAML does not support surrogate pairs
}


@pytest.mark.parametrize("front", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_card_is_said_so_soon_and_harms_nobody(shared, front):
    with at_most(32 * len(front) + 10_000), pytest.raises(cards.CardError) as caught:
        cards.front_matter(f"---\n{front}\n---\n")
    assert str(caught.value)
    text = f"---\n{front}\n---\n"
    checked = ask(shared.url, "POST", "/api/validate-yaml", {"content": text})
    assert (checked.status, bool(checked.json["errors"][0]["message"])) == (400, True)
    body = commit_body(add("README.md", text.encode()))
    assert ask(shared.url, "POST", f"{REPO}/commit/main", body).status == 200
    for path in ("/api/models", "/api/models?full=true", "/api/models?filter=x", REPO):
        assert ask(shared.url, "GET", path).status == 200
    assert ask(shared.url, "GET", REPO).json["cardData"] == {}


@pytest.mark.parametrize(("front", "fields"), READABLE.values(), ids=READABLE)
def test_what_json_has_no_word_for_is_text(front, fields):
    try:
        assert cards.front_matter(f"---\n{front}\n---\n") == fields
    except cards.CardError:
        assert fields is None


PIECES = st.sampled_from(
    ["a", "b: ", "- ", "? ", ": ", "[", "]", "{", "}", ",", "\n", "\n  ", "'", '"', "&a ", "*a", "!!int ", "!!float ",
     "!!bool ", "!!null ", "!!timestamp ", "!!binary ", "!!set ", "!!omap ", "!!pairs ", "!!str ", "!x ", "<<: ", "=",
     "1", "08", "0x1f", "1:59", ".inf", ".nan", "~", "yes", "2001-01-01", "|\n", ">-\n", "#", "%YAML 1.1\n", "---\n",
     "...\n", "\\uD800", "\\x", "\t", "\x85", "\ufeff", "😀", "license: ", "tags: "]
)  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(st.one_of(st.lists(PIECES, max_size=30).map("".join), st.text(st.characters(exclude_categories=["Cs"]))))
def test_any_front_matter_is_json_or_a_card_error(front):
    try:
        found = cards.front_matter(f"---\n{front}\n---\n")
    except cards.CardError as fault:
        assert str(fault).encode()
        return
    assert found is None or isinstance(found, dict)
    text = json.dumps(found, ensure_ascii=False, allow_nan=False)
    assert json.loads(text.encode()) == found
    for tag in cards.tags(found or {}):
        assert tag.encode()


def test_a_card_is_parsed_once_and_read_from_the_index(registry, monkeypatch):
    parsed = []
    real = cards.of_file
    monkeypatch.setattr(cards, "of_file", lambda path: parsed.append(path) or real(path))
    card = b"---\ntags: [a]\n---\n"
    for content in (b"1", b"2"):
        body = commit_body(add("README.md", card), add("x", content))
        assert ask(registry.url, "POST", f"{REPO}/commit/main", body).status == 200
    assert ask(registry.url, "GET", REPO).json["tags"] == ["a"]
    assert ask(registry.url, "GET", "/api/models?filter=a&cardData=true").json[0]["cardData"] == {"tags": ["a"]}
    assert len(parsed) == 1


def test_tags_follow_the_newest_commit_on_main(registry):
    def listed(tag: str) -> list[str]:
        return [one["id"] for one in ask(registry.url, "GET", f"/api/models?filter={tag}").json]

    assert ask(registry.url, "POST", f"{REPO}/branch/other", {}).status == 200
    for branch, tag in (("other", "hidden"), ("main", "old"), ("main", "new")):
        body = commit_body(add("README.md", f"---\ntags: [{tag}]\npipeline_tag: any\n---\n".encode()))
        assert ask(registry.url, "POST", f"{REPO}/commit/{branch}", body).status == 200
    assert [listed(tag) for tag in ("hidden", "old", "new")] == [[], [], ["org/digits"]]
    assert ask(registry.url, "GET", "/api/models?pipeline_tag=other").json == []
    assert len(ask(registry.url, "GET", "/api/models?pipeline_tag=any").json) == 1
    gone = commit_body({"key": "deletedFile", "value": {"path": "README.md"}})
    assert ask(registry.url, "POST", f"{REPO}/commit/main", gone).status == 200
    assert listed("new") == []


def test_listings_hold_what_is_asked_for_however_long_cards_are(registry):
    long = "x: [" + ", ".join(["a" * 100] * 50) + "]\nlibrary_name: " + "b" * 5000 + "\npipeline_tag: short\n"
    tags = f"tags: [{', '.join(f'{number}' + 'c' * 150 for number in range(300))}]\n"
    body = commit_body(add("README.md", f"---\n{long}{tags}---\n".encode()))
    assert ask(registry.url, "POST", f"{REPO}/commit/main", body).status == 200
    plain = ask(registry.url, "GET", "/api/models")
    assert len(plain.body) < 20_000
    assert (plain.json[0]["pipeline_tag"], len(plain.json[0]["tags"])) == ("short", 100)
    assert "library_name" not in plain.json[0]
    whole = ask(registry.url, "GET", "/api/models?cardData=true").json[0]
    assert len(whole["cardData"]["tags"]) == 300
