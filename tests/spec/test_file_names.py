"""Names of companion files: page, schema and both readers agree."""

import re

import pytest
from jsonschema import Draft202012Validator
from spec_files import V1, schema

from lottapack.format.files import MAX_FILES, MAX_SIZE, MAX_SIZES, NAMES, is_name

PAGE = (V1 / "files.md").read_text("utf-8")
SCHEMA = schema("descriptor")["$defs"]["files"]
SCRIPT = (V1.parent / "js" / "files.js").read_text("utf-8")


def test_all_list_the_same_names():
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    table = {name for line in rows for name in re.findall(r"`([a-z_.-]+\.[a-z]+)`", line)} - {"rng.tables"}
    assert table == NAMES
    listed, pattern = SCHEMA["propertyNames"]["anyOf"]
    assert listed["enum"] == sorted(NAMES)
    block = re.search(r"NAMES = \[(.*?)\]", SCRIPT, re.DOTALL)[1]
    assert re.findall(r'"(.*?)"', block) == sorted(NAMES)
    begin, end = "^additional_chat_templates/", r"\Z"
    form, devices = pattern["pattern"], pattern["not"]["pattern"]
    assert form.removeprefix(begin).removesuffix(end) in SCRIPT
    assert devices.removeprefix(begin).removeprefix("(") in SCRIPT


@pytest.mark.parametrize(
    ("name", "right"), [("a", True), ("com1", False), ("com10", True), ("con-", True), ("-a", False)]
)
def test_names_of_templates(name, right):
    whole = f"additional_chat_templates/{name}.jinja"
    assert is_name(whole) == right
    assert Draft202012Validator(SCHEMA["propertyNames"]["anyOf"][1]).is_valid(whole) == right


def test_the_page_says_the_limits():
    assert SCHEMA["maxProperties"] == MAX_FILES
    assert SCHEMA["additionalProperties"]["properties"]["size"]["maximum"] == MAX_SIZE
    for limit in (MAX_SIZE, MAX_SIZES):
        assert f"{limit:,}" in PAGE
