"""The vectors of signatures, made by the specification's own program, against the model-signing library."""

import json
import shutil
from pathlib import Path

import pytest

import lottapack

VECTORS = Path(__file__).parents[2] / "spec" / "v1" / "vectors"
ANSWERS = json.loads((VECTORS / "signatures.json").read_text("utf-8"))


@pytest.mark.parametrize("case", ANSWERS["cases"], ids=lambda case: case["why"])
def test_signatures(case, tmp_path):
    pack = Path(shutil.copy(VECTORS / ANSWERS["pack"], tmp_path))
    key = tmp_path / "key.pub"
    key.write_text(case["key"])
    pack.with_name(f"{pack.name}.sig").write_text(case["signature"])
    failed = [check.what for check in lottapack.verify(pack, key=key, build=False).checks if check.status == "failed"]
    assert failed == ([] if case["valid"] else ["signature"])
    if not case["valid"]:
        with pytest.raises(lottapack.errors.SignatureError):
            lottapack.load(pack, require_signature=key)


def test_there_are_both():
    assert {case["valid"] for case in ANSWERS["cases"]} == {True, False}
