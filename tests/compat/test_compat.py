"""Packs of all released versions load and rebuild the same bits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kinds import PACKAGE
from spec_files import schema
from write import HERE, SUFFIX, facts

import lottapack
from lottapack import codecs, rng

TIMM_PYTHON = HERE.parents[1] / ".venv-timm" / "bin" / "python"
PACKS = sorted(HERE.glob(f"v*/*{SUFFIX}"))


@pytest.mark.parametrize("path", PACKS, ids=lambda path: f"{path.parent.name}-{path.name.removesuffix(SUFFIX)}")
def test_packs_of_released_versions_rebuild_the_same(path):
    expected = json.loads(path.with_name(path.name.replace(SUFFIX, ".json")).read_text("utf-8"))
    assert facts(path) == expected
    if "timm" in path.name:
        return
    assert lottapack.verify(path, allow=PACKAGE).ok
    adapted = lottapack.load(path, check_fingerprints=True, allow=PACKAGE)
    assert lottapack.nn.is_scaffolded(adapted)


def test_packs_of_timm_models_are_built_and_give_the_same():
    """In the environment that has timm."""
    if not TIMM_PYTHON.is_file():
        pytest.skip("missing: .venv-timm: make unit")
    path = HERE / "v0.1.0" / f"timm{SUFFIX}"
    code = (
        "import json, sys, torchvision_if_it_works, lottapack; from write import digest; "
        "assert lottapack.verify(sys.argv[1]).ok; "
        "state = lottapack.load(sys.argv[1], merge=True).state_dict(); "
        "print(json.dumps({name: digest(tensor) for name, tensor in state.items()}))"
    )
    folders = os.pathsep.join(map(str, (HERE, HERE.parents[1], HERE.parent / "families")))
    environment = {**os.environ, "PYTHONPATH": folders, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([TIMM_PYTHON, "-c", code, path], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(path.with_name("timm.json").read_text("utf-8"))["merged_sha256"]


def test_every_version_has_packs():
    assert {path.name for path in HERE.glob("v*")} == {path.parent.name for path in PACKS}
    assert "v0.1.0" in {path.parent.name for path in PACKS}


def words_of_schema(node, schema, seen):
    """Yield fields, ids and other fixed texts that the schema allows in a descriptor."""
    if isinstance(node, list):
        for one in node:
            yield from words_of_schema(one, schema, seen)
    elif isinstance(node, dict):
        reference = node.get("$ref", "").removeprefix("#/$defs/")
        if reference and reference not in seen:
            seen.add(reference)
            yield from words_of_schema(schema["$defs"][reference], schema, seen)
        yield from (word for word in [*node.get("enum", ()), node.get("const")] if isinstance(word, str))
        fields = node.get("properties", {})
        yield from (field for field, rule in fields.items() if rule is not False)
        yield from words_of_schema(list(fields.values()), schema, seen)
        others = node.keys() - {"not", "properties", "propertyNames", "enum", "const", "if"}
        yield from words_of_schema([node[key] for key in sorted(others)], schema, seen)


def words_of(value):
    """Yield the keys and texts of a descriptor."""
    if isinstance(value, dict):
        yield from value
        for one in value.values():
            yield from words_of(one)
    elif isinstance(value, list):
        for one in value:
            yield from words_of(one)
    elif isinstance(value, str):
        yield value


def descriptors():
    for path in HERE.glob(f"v0.1.0/*{SUFFIX}"):
        with lottapack.open_pack(path) as pack:
            yield json.loads(pack.whole.to_bytes())


def test_the_first_version_has_packs_of_every_kind():
    """Whatever the schema knows by name: roles, fields, dtypes, groups, codings, tables, families, generators."""
    rules = schema("descriptor")
    due = set(words_of_schema({"$ref": "#/$defs/descriptor"}, rules, set()))
    assert {"adapted", "shared_factor", "torch-cpu", "timm", "slice", "trellis8", "computed", "lora"} <= due
    held = {word for descriptor in descriptors() for word in words_of(descriptor)}
    assert sorted((due | set(rng.BUILTIN)) - held) == []


def test_every_coding_is_on_all_that_may_have_it():
    held = set()
    for descriptor in descriptors():
        entries = descriptor["parameters"].values()
        tensors = [tensor for entry in entries for tensor in entry.get("adapter", {}).values()]
        for what, of in (("parameter", entries), ("adapter", tensors), ("file", descriptor.get("files", {}).values())):
            held |= {(what, entry["coding"]["id"] if "coding" in entry else None) for entry in of}
    due = {(what, coding) for what in ("parameter", "adapter") for coding in (None, *codecs.CODECS)}
    due -= {("adapter", "float16"), ("adapter", "bfloat16")}  # pack() gives adapters these dtypes without a coding
    assert held == due | {("adapter", "seeded"), ("adapter", "slice"), ("file", None), ("file", "planes-zlib")}


def test_released_packs_are_never_written_again():
    before = {path: path.read_bytes() for path in HERE.glob("v*/*")}
    script = [sys.executable, Path(HERE, "write.py")]
    environment = {"PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run([*script, "0.1.0"], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode != 0
    assert "File exists" in done.stderr or "this is lottapack" in done.stderr
    assert {path: path.read_bytes() for path in HERE.glob("v*/*")} == before
