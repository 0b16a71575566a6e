"""The list of tests that make test-hub leaves out. make test does not run the suite itself: README.md."""

import tomllib
from pathlib import Path

SCOPE = tomllib.loads((Path(__file__).parent / "scope.toml").read_text("utf-8"))


def test_what_is_left_out_is_in_a_group_and_has_a_reason():
    tests = [test for entry in SCOPE["left_out"] for test in entry["tests"]]
    assert all(entry["reason"].endswith(".") and entry["tests"] for entry in SCOPE["left_out"])
    assert {test.partition("::")[0] for test in tests} <= {f"test_{group}.py" for group in SCOPE["groups"]}
    assert len(tests) == len(set(tests))
    assert all(test.count("::") in (1, 2) for test in tests), "no file is left out as a whole"
