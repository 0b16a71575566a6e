"""lottapack's canonical JSON against the known answers."""

import json

import pytest
from spec_files import answers

from lottapack.errors import FormatError
from lottapack.format import canonical

JSON = answers("json")


@pytest.mark.parametrize("case", JSON["accepted"], ids=lambda case: case["why"])
def test_canonical_form(case):
    form = case["canonical"].encode()
    assert canonical.dumps(json.loads(case["text"])) == form
    assert canonical.dumps(canonical.loads(form)) == form


@pytest.mark.parametrize(
    "case", [case for case in JSON["accepted"] if not case["is_canonical"]], ids=lambda case: case["why"]
)
def test_any_other_form_is_refused(case):
    with pytest.raises(FormatError) as caught:
        canonical.loads(case["text"].encode())
    assert [problem.kind for problem in caught.value.problems] == ["canonical"]


@pytest.mark.parametrize("case", JSON["refused"], ids=lambda case: case["why"])
def test_what_is_no_json_is_refused(case):
    text = b"".join(bytes.fromhex(piece) * times for piece, times in case["pieces"])
    with pytest.raises(FormatError) as caught:
        canonical.loads(text)
    assert [problem.kind for problem in caught.value.problems] == [case["kind"]]
