"""lottapack against the example files: valid packs give the recorded bits, faulty ones the recorded refusal."""

import hashlib

import pytest
import torch
from spec_files import descriptor_of, files, split

import lottapack

VALID, INVALID = files("valid"), files("invalid")
ERRORS = {
    "container": lottapack.ContainerError,
    "descriptor": lottapack.DescriptorError,
    "agreement": lottapack.AgreementError,
}


def of_sections(*sections):
    return [name for name, (_, sidecar) in INVALID.items() if sidecar["section"] in sections]


def buildable():
    return [name for name, (_, sidecar) in VALID.items() if sidecar["buildable"]]


def sha256(tensor):
    flat = tensor.detach().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"").hexdigest()


@pytest.mark.parametrize("name", VALID)
def test_valid_packs_pass_every_check(name):
    path, sidecar = VALID[name]
    result = lottapack.verify(path)
    wrong = [check.what for check in result.checks if check.status != "ok"]
    assert wrong == ([] if sidecar["buildable"] else ["architecture"])
    checked = {check.where for check in result.checks if check.what == "fingerprint"}
    assert checked == sidecar["fingerprints"].keys()


@pytest.mark.parametrize("name", VALID)
def test_valid_packs_record_the_fingerprints(name):
    path, sidecar = VALID[name]
    with lottapack.open_pack(path) as pack:
        entries = pack.descriptor.parameters
        recorded = {key: entry.fingerprint for key, entry in entries.items() if hasattr(entry, "fingerprint")}
    assert recorded == sidecar["fingerprints"]


@pytest.mark.parametrize("name", VALID)
def test_export_writes_the_plain_weights(name, tmp_path):
    path, sidecar = VALID[name]
    written = lottapack.export(path, tmp_path / "plain.safetensors")
    header, data = split(written)
    digests = {}
    for key in header.keys() - {"__metadata__"}:
        begin, end = header[key]["data_offsets"]
        digests[key] = hashlib.sha256(data[begin:end]).hexdigest()
    assert digests == sidecar["merged_sha256"]


@pytest.mark.parametrize("name", buildable())
def test_load_merges_to_the_plain_weights(name):
    path, sidecar = VALID[name]
    if descriptor_of(path)["architecture"]["family"] == "transformers":
        pytest.importorskip("transformers")
    model = lottapack.load(path, merge=True, check_fingerprints=True)
    assert {key: sha256(tensor) for key, tensor in model.state_dict().items()} == sidecar["merged_sha256"]


@pytest.mark.parametrize("name", of_sections(*ERRORS))
def test_faulty_packs_are_refused(name):
    path, sidecar = INVALID[name]
    with pytest.raises(lottapack.FormatError) as caught:
        lottapack.open_pack(path).close()
    assert type(caught.value) is ERRORS[sidecar["section"]]
    found = [(problem.kind, problem.where) for problem in caught.value.problems]
    assert found == [(sidecar["kind"], sidecar["where"])], str(caught.value)


@pytest.mark.parametrize("name", of_sections("contents"))
def test_faulty_contents_are_found(name):
    path, sidecar = INVALID[name]
    try:
        checks = lottapack.verify(path).checks
    except lottapack.IntegrityError as error:  # a table of the pack's own is checked before anything else
        found = [(problem.kind, problem.where) for problem in error.problems]
    else:
        failed = [check for check in checks if check.status == "failed"]
        found = [(check.what, check.where) for check in failed if check.what != "architecture"]
    assert found == [(sidecar["kind"], sidecar["where"])]


@pytest.mark.parametrize("name", [name for name in of_sections("contents") if "bool" not in name])
def test_faulty_contents_are_not_loaded(name):
    path, sidecar = INVALID[name]
    with pytest.raises(lottapack.IntegrityError) as caught:
        lottapack.load(path, check_fingerprints=True)
    assert [(problem.kind, problem.where) for problem in caught.value.problems] == [(sidecar["kind"], sidecar["where"])]


@pytest.mark.parametrize("name", of_sections("limit"))
def test_models_over_the_limit_are_refused(name):
    path, _ = INVALID[name]
    with pytest.raises(lottapack.LimitError):
        lottapack.load(path)
    with pytest.raises(lottapack.LimitError):
        lottapack.verify(path)
