"""verify() detects a change of any hash and of any part of the data."""

import json

import pytest
import torch
from every_hash import changes
from extent import ordinary
from spec_files import descriptor_of, files
from torch import nn

import lottapack
from lottapack.format.expected import expected_file
from lottapack.format.packfile import PackFile
from lottapack.reports import verification

VALID = files("valid")


def verdict(path):
    """Whether a pack verifies, and as what it is refused."""
    try:
        found = lottapack.verify(path)
    except lottapack.errors.FormatError as error:
        return False, {problem.kind for problem in error.problems}
    except lottapack.errors.IntegrityError as error:  # a table of the pack's own is checked before anything else
        return False, {problem.kind for problem in error.problems}
    return found.ok, {check.what for check in found.checks if check.status == "failed"}


@pytest.mark.parametrize("name", ordinary(VALID, {"most_values", "most_values_and_an_empty_array"}))
def test_no_hash_and_no_part_of_the_data_is_left_out(name, tmp_path):
    path, _ = VALID[name]
    if name.startswith("transformers"):
        pytest.importorskip("transformers")
    changed, accepted = tmp_path / "changed.lotta.safetensors", []
    for what, where, data in changes(path):
        changed.write_bytes(data)
        ok, kinds = verdict(changed)
        if ok or not kinds & {"fingerprint" if what == "fingerprint" else "sha256", "table", "bool"}:
            accepted.append((what, where, kinds))
    assert accepted == []


TIED_ELSEWHERE = {"scaffolds", "tied_chain"}
"""Packs that are loaded merged alone: a layer is tied to one that has an adapter, and is not the same in all else."""


@pytest.mark.parametrize("name", [name for name, (_, sidecar) in VALID.items() if sidecar["buildable"]])
def test_no_reader_hands_out_what_has_another_hash(name, tmp_path):
    path, _ = VALID[name]
    if name.startswith("transformers"):
        pytest.importorskip("transformers")
    changed = tmp_path / "changed.lotta.safetensors"
    readers = {
        "load": lottapack.load,
        "load, merged": lambda path: lottapack.load(path, merge=True),
        "load_numpy": lottapack.numpy.load,
        "export": lambda path: lottapack.export(path, tmp_path / "plain.safetensors"),
    }
    if descriptor_of(path)["rng"]["id"] == "torch-cpu":
        del readers["load_numpy"]  # which cannot read these
    if name in TIED_ELSEWHERE:
        with pytest.raises(lottapack.errors.ArchitectureError, match="would not see the adapter"):
            lottapack.load(path)
        del readers["load"]
    accepted = []
    for what, where, data in changes(path):
        changed.write_bytes(data)
        # Companion files are checked when someone asks for them.
        of_model = what != "fingerprint" and not where.startswith(("files.", "lottapack.files."))
        for reader, read in readers.items() if of_model else ():
            try:
                read(changed)
            except (lottapack.errors.FormatError, lottapack.errors.IntegrityError):
                continue
            accepted.append((reader, where))
    assert accepted == []
    assert not (tmp_path / "plain.safetensors").exists()


def test_weights_that_torch_drew(tmp_path):
    """Stored tensors with a coding, beside fingerprints that other generators cannot check."""
    net = nn.Sequential(nn.Embedding(40, 8), nn.Linear(8, 6))
    torch.manual_seed(6)
    drawn = nn.Sequential(nn.Embedding(40, 8), nn.Linear(8, 6))
    with torch.no_grad():
        drawn[0].weight += 1
    pack, changed = tmp_path / "drawn.lotta.safetensors", tmp_path / "changed.lotta.safetensors"
    with pytest.warns(lottapack.errors.BackboneChangedWarning):
        lottapack.pack(
            lottapack.recover.torch_cpu(drawn, seed=6, architecture=net),
            pack,
            compression=lottapack.Compression(coding={"embeddings": "int8-block64"}),
        )
    tried = []
    for what, where, data in changes(pack):
        changed.write_bytes(data)
        assert not verdict(changed)[0], where
        tried.append(what)
    assert {"data", "fingerprint", "sha256"} == set(tried)


def test_the_packs_have_every_kind_of_hash():
    found = [what for path, _ in VALID.values() for what, *_ in changes(path)]
    assert {kind: found.count(kind) > 20 for kind in ("data", "fingerprint", "sha256")} == {
        "data": True,
        "fingerprint": True,
        "sha256": True,
    }
    entries = [entry for path, _ in VALID.values() for entry in descriptor_of(path)["parameters"].values()]
    assert {entry["role"] for entry in entries} == {"adapted", "constant", "seeded", "stored", "tied"}
    assert len({entry["coding"]["id"] for entry in entries if "coding" in entry}) == 6


@pytest.mark.parametrize("lost", ["sha256", "coding", "fingerprint"])
def test_what_is_not_checked_is_a_failure(lost, monkeypatch):
    """verify() detects its own missing checks: it counts them against the descriptor's list."""
    path, _ = VALID["every_role"]
    coded = next(path for path, _ in VALID.values() if '"coding"' in json.dumps(descriptor_of(path)))
    every = verification._contents
    monkeypatch.setattr(
        verification, "_contents", lambda *a: (found for found in every(*a) if found[0][0] != lost), raising=True
    )
    found = lottapack.verify(coded if lost == "coding" else path, build=False)
    assert not found.ok
    failed = {(check.what, check.detail) for check in found.checks if check.status == "failed"}
    assert failed == {(lost, "the descriptor lists it, but no check covered it")}


def test_every_tensor_of_a_file_has_one_use():
    for path, _ in VALID.values():
        with lottapack.open_pack(path) as pack:
            assert isinstance(pack, PackFile)
            used = [info.name for name in pack.descriptor.parameters for info in pack.parts(name).values()]
            tables = [f"lottapack.tables.{table}" for table in pack.descriptor.rng.tables]
            files = [expected_file(*item).name for item in (pack.descriptor.files or {}).items()]
            assert sorted(used + tables + files) == sorted(pack.tensors)
