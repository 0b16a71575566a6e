"""The JavaScript implementation on every vector, in one run of ``node --test``."""

from pathlib import Path

import pytest
from js_runs import JS, SUFFIX, lines, node

VECTORS = JS.parent / "v1" / "vectors"
PACKS = [
    f"{folder}/{path.name.removesuffix(SUFFIX)}"
    for folder in ("invalid", "valid")
    for path in sorted((VECTORS / "files" / folder).glob(f"*{SUFFIX}"))
]
ANSWERS = {
    "philox": 9,
    "stream": 12,
    "table": 6,
    "elements": 60,
    "merge": 5,
    "coding": 20,
    "json accepted": 20,
    "json refused": 20,
}
"""How the names of the tests of a file begin, and how many there are at least."""


@pytest.fixture(scope="session")
def outcomes():
    """Every test of spec/js/test by its name."""
    files = sorted((JS / "test").glob("*.test.js"))
    done = lines(
        node("--test", f"--test-reporter={JS / 'test' / 'reporter.js'}", *files, timeout=600)
    )  # on a busy machine
    found = {outcome["name"]: outcome for outcome in done}
    assert len(found) == len(done), "two tests have one name"
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKS)
def test_pack(name, outcomes):
    assert outcomes[name]["ok"], outcomes[name]["error"]


@pytest.mark.parametrize("begin", ANSWERS)
def test_known_answers(begin, outcomes):
    found = [outcome for name, outcome in outcomes.items() if name.startswith((f"{begin}:", f"{begin} "))]
    assert len(found) >= ANSWERS[begin]
    assert {outcome["name"]: outcome["error"] for outcome in found if not outcome["ok"]} == {}


def test_nothing_else_fails_and_nothing_is_left_out(outcomes):
    assert {name: outcome["error"] for name, outcome in outcomes.items() if not outcome["ok"]} == {}
    assert [name for name, outcome in outcomes.items() if outcome["skipped"]] == []


def test_modules_are_small_and_say_what_they_do():
    for path in Path(JS).rglob("*.js"):
        text = path.read_text("utf-8")
        assert text.startswith("/**"), path
        assert text.count("\n") <= 300, path


def test_nothing_is_imported_from_elsewhere():
    """Only node.js, which is for files, may use Node's own modules."""
    code = "import { open } from './lottapack.js'; console.log(JSON.stringify({ name: open.name }))"
    assert lines(node("--input-type=module", "--eval", code.replace("./", f"{JS.as_uri()}/"))) == [{"name": "open"}]
    for path in JS.glob("*.js"):
        imported = [line.split('"')[-2] for line in path.read_text("utf-8").splitlines() if ' from "' in line]
        other = [name for name in imported if not name.startswith("./")]
        assert all(path.name == "node.js" and name.startswith("node:") for name in other), path
