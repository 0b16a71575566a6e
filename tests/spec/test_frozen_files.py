"""Format 1.0 is final: its vectors and the packs of released versions are those that were recorded."""

import json
import shutil

import frozen
import pytest


def test_what_is_frozen_does_not_change():
    assert frozen.changes(frozen.ROOT) == [], "see tests/spec/frozen.py"


@pytest.fixture
def copy(tmp_path):
    """The answers, the index, and a few packs, recorded."""
    vectors = tmp_path / frozen.VECTORS
    (vectors / "files" / "valid").mkdir(parents=True)
    for path in (*(frozen.ROOT / frozen.VECTORS).glob("*.json"), frozen.ROOT / frozen.VECTORS / "index.tsv"):
        shutil.copy(path, vectors)
    for path in (frozen.ROOT / frozen.VECTORS / "files" / "valid").glob("minimal.*"):
        shutil.copy(path, vectors / "files" / "valid")
    frozen.add(tmp_path)
    assert frozen.changes(tmp_path) == []
    return tmp_path


def test_a_changed_pack_is_noticed_and_cannot_be_recorded(copy):
    path = copy / frozen.VECTORS / "files" / "valid" / "minimal.lotta.safetensors"
    path.write_bytes(path.read_bytes() + b" ")
    frozen.add(copy)
    said = "changed or missing: spec/v1/vectors/files/valid/minimal.lotta.safetensors"
    assert frozen.changes(copy) == [said]
    path.unlink()
    assert frozen.changes(copy) == [said]


@pytest.mark.parametrize("place", [0, 700])
def test_a_changed_line_of_the_index_is_noticed_and_cannot_be_recorded(place, copy):
    path = copy / frozen.VECTORS / "index.tsv"
    lines = path.read_text("utf-8").split("\n")
    path.write_text("\n".join([*lines[:place], f"{lines[place]}0", *lines[place + 1 :]]), "utf-8")
    frozen.add(copy)
    (said,) = frozen.changes(copy)
    assert said.startswith("changed or missing: the first")


def test_a_changed_answer_is_noticed(copy):
    path = copy / frozen.VECTORS / "elements.json"
    value = json.loads(path.read_text("utf-8"))
    value["cases"][5]["sha256"] = "0" * 64
    path.write_text(json.dumps(value), "utf-8")
    (said,) = frozen.changes(copy)
    assert said.endswith("of spec/v1/vectors/elements.json#cases")


def test_new_vectors_can_be_added(copy):
    vectors = copy / frozen.VECTORS
    before = (copy / frozen.LIST).read_text("utf-8").splitlines()
    (vectors / "files" / "valid" / "new.json").write_text("{}", "utf-8")
    with (vectors / "index.tsv").open("a", encoding="utf-8") as index:
        index.write("load\tcheck\tfiles/valid/new.lotta.safetensors\t1\t=\tok\n")
    assert frozen.changes(copy) == [
        "not recorded: spec/v1/vectors/files/valid/new.json",
        "not recorded: spec/v1/vectors/index.tsv#check-valid",
    ]
    frozen.add(copy)
    assert frozen.changes(copy) == []
    assert len(set(before) - set((copy / frozen.LIST).read_text("utf-8").splitlines())) == 1
