"""Example files: valid packs give the recorded bits, faulty ones the recorded refusal."""

import hashlib
import json

import pytest
import torch
from spec_files import descriptor_of, files, split

import lottapack
from lottapack.format.files import content, files_of

VALID, INVALID = files("valid"), files("invalid")
ERRORS = {
    "container": lottapack.errors.ContainerError,
    "descriptor": lottapack.errors.DescriptorError,
    "agreement": lottapack.errors.AgreementError,
}


def of_sections(*sections):
    return [name for name, (_, sidecar) in INVALID.items() if sidecar["section"] in sections]


def buildable():
    return [name for name, (_, sidecar) in VALID.items() if sidecar["buildable"]]


def scaffolds(sidecar):
    """Return each scaffold's name (None for the default) and its weights from the sidecar."""
    return [(None, sidecar), *sidecar.get("scaffolds", {}).items()]


def sha256(tensor):
    flat = tensor.detach().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"").hexdigest()


@pytest.mark.parametrize("name", VALID)
def test_valid_packs_pass_every_check(name):
    path, sidecar = VALID[name]
    if name.startswith(("transformers", "computed")):
        pytest.importorskip("transformers")
    result = lottapack.verify(path)
    wrong = [check.what for check in result.checks if check.status != "ok"]
    assert wrong == ([] if sidecar["buildable"] else ["architecture"])
    checked = {check.where for check in result.checks if check.what == "fingerprint"}
    others = [(name, key) for name, weights in scaffolds(sidecar) for key in weights["fingerprints"] if name]
    places = {f"rng.scaffolds[{json.dumps(name)}].fingerprints[{json.dumps(key)}]" for name, key in others}
    assert checked == sidecar["fingerprints"].keys() | places


@pytest.mark.parametrize("name", VALID)
def test_valid_packs_record_the_fingerprints(name):
    path, sidecar = VALID[name]
    for scaffold, weights in scaffolds(sidecar):
        with lottapack.open_pack(path, scaffold) as pack:
            entries = pack.descriptor.parameters
            recorded = {key: entry.fingerprint for key, entry in entries.items() if hasattr(entry, "fingerprint")}
        assert recorded == weights["fingerprints"]


@pytest.mark.parametrize("name", VALID)
def test_files_beside_the_model_are_read(name, tmp_path):
    path, sidecar = VALID[name]
    with lottapack.open_pack(path) as pack:
        found = {key: hashlib.sha256(content(pack, key)).hexdigest() for key in files_of(pack.descriptor)}
    assert found == sidecar.get("files", {})
    if found:
        lottapack.export(path, tmp_path / "out", format="files")
        written = {key: hashlib.sha256((tmp_path / "out" / key).read_bytes()).hexdigest() for key in found}
        assert written == found


@pytest.mark.parametrize("name", VALID)
def test_export_writes_the_plain_weights(name, tmp_path):
    path, sidecar = VALID[name]
    for scaffold, weights in scaffolds(sidecar):
        written = lottapack.export(path, tmp_path / "plain.safetensors", scaffold=scaffold)
        header, data = split(written)
        digests = {}
        for key in header.keys() - {"__metadata__"}:
            begin, end = header[key]["data_offsets"]
            digests[key] = hashlib.sha256(data[begin:end]).hexdigest()
        assert digests == weights["merged_sha256"]


@pytest.mark.parametrize("name", buildable())
def test_load_merges_to_the_plain_weights(name):
    path, sidecar = VALID[name]
    if descriptor_of(path)["architecture"]["family"] == "transformers":
        pytest.importorskip("transformers")
    for scaffold, weights in scaffolds(sidecar):
        model = lottapack.load(path, merge=True, check_fingerprints=True, scaffold=scaffold)
        assert {key: sha256(tensor) for key, tensor in model.state_dict().items()} == weights["merged_sha256"]


@pytest.mark.parametrize("name", of_sections(*ERRORS))
def test_faulty_packs_are_refused(name):
    path, sidecar = INVALID[name]
    with pytest.raises(lottapack.errors.FormatError) as caught:
        lottapack.open_pack(path).close()
    assert type(caught.value) is ERRORS[sidecar["section"]]
    found = [(problem.kind, problem.where) for problem in caught.value.problems]
    assert found == [(sidecar["kind"], sidecar["where"])], str(caught.value)


@pytest.mark.parametrize("name", of_sections("contents"))
def test_faulty_contents_are_found(name):
    path, sidecar = INVALID[name]
    try:
        checks = lottapack.verify(path).checks
    except lottapack.errors.IntegrityError as error:  # a table of the pack's own is checked before anything else
        found = [(problem.kind, problem.where) for problem in error.problems]
    else:
        failed = [check for check in checks if check.status == "failed"]
        found = [(check.what, check.where) for check in failed if check.what != "architecture"]
    assert found == [(sidecar["kind"], sidecar["where"])]


@pytest.mark.parametrize("name", [name for name in of_sections("contents") if "bool" not in name])
def test_faulty_contents_are_not_loaded(name):
    path, sidecar = INVALID[name]
    in_scaffold = sidecar["where"].startswith("rng.scaffolds")
    with pytest.raises(lottapack.errors.IntegrityError) as caught:
        lottapack.load(path, check_fingerprints=True, scaffold="task-b" if in_scaffold else None)
    assert [(problem.kind, problem.where) for problem in caught.value.problems] == [(sidecar["kind"], sidecar["where"])]


@pytest.mark.parametrize("name", of_sections("limit"))
def test_models_over_the_limit_are_refused(name):
    path, sidecar = INVALID[name]
    with pytest.raises(lottapack.errors.LimitError):
        lottapack.load(path, max_bytes=sidecar["allowed"])
    with pytest.raises(lottapack.errors.LimitError):
        lottapack.verify(path, max_bytes=sidecar["allowed"])


def test_models_of_just_the_limit_are_loaded():
    path, sidecar = INVALID["limit_by_one"]
    assert lottapack.verify(path, max_bytes=sidecar["allowed"] + 1).ok
