"""Packs of all released versions load and rebuild the same bits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from write import HERE, SUFFIX, facts

import lottapack

PACKS = sorted(HERE.glob(f"v*/*{SUFFIX}"))


@pytest.mark.parametrize("path", PACKS, ids=lambda path: f"{path.parent.name}-{path.name.removesuffix(SUFFIX)}")
def test_packs_of_released_versions_rebuild_the_same(path):
    expected = json.loads(path.with_name(path.name.replace(SUFFIX, ".json")).read_text("utf-8"))
    assert facts(path) == expected
    assert lottapack.verify(path).ok
    adapted = lottapack.load(path, check_fingerprints=True)
    assert lottapack.nn.is_scaffolded(adapted)


def test_every_version_has_packs():
    assert {path.name for path in HERE.glob("v*")} == {path.parent.name for path in PACKS}
    assert "v0.1.0" in {path.parent.name for path in PACKS}


def test_a_version_has_packs_of_every_kind():
    """Roles, codings, dtypes, tensors of adapters, scaffolds and families of 1.0 that need no other library."""
    held: set[str] = set()
    for path in HERE.glob(f"v0.1.0/*{SUFFIX}"):
        with lottapack.open_pack(path) as pack:
            descriptor = json.loads(pack.descriptor.to_bytes())
        held |= {descriptor["architecture"]["family"], *descriptor["rng"]}
        for entry in descriptor["parameters"].values():
            tensors = entry.get("adapter", {})
            held |= {entry["role"], entry.get("dtype", ""), entry.get("distribution", ""), *tensors}
            held |= {one["coding"]["id"] for one in (entry, *tensors.values()) if "coding" in one}
    assert held >= {"seeded", "adapted", "stored", "constant", "tied", "float32", "bfloat16", "float16", "int64"}
    assert held >= {"float16", "bfloat16", "int8-block64", "normal4-block64", "trellis8", "planes-zlib", "shared"}
    assert held >= {"lora_A", "lora_B", "beta", "lambda_b", "lambda_d", "scale_in", "hadamard", "normal16", "sign1"}
    assert held >= {"scaffolds", "torch.nn", "transformers"}


def test_released_packs_are_never_written_again():
    before = {path: path.read_bytes() for path in HERE.glob("v*/*")}
    script = [sys.executable, Path(HERE, "write.py")]
    environment = {"PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run([*script, "0.1.0"], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode != 0
    assert "File exists" in done.stderr or "this is lottapack" in done.stderr
    assert {path: path.read_bytes() for path in HERE.glob("v*/*")} == before
