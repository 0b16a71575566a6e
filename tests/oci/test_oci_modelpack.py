"""The second manifest, for tools of the CNCF's ModelPack specification."""

import json
import shutil
import urllib.request
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

import lottapack
from lottapack.errors import InvalidReferenceError, NotFoundError, UnsupportedError
from lottapack.pushing import modelpack
from lottapack_cli.app import main

TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
CONFIG = {
    "type": "object",
    "additionalProperties": False,
    "required": ["descriptor", "config", "modelfs"],
    "properties": {
        "descriptor": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"name": {**TEXT, "minLength": 1}, "family": TEXT, "licenses": TEXTS},
        },
        "config": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "architecture": TEXT,
                "format": TEXT,
                "precision": TEXT,
                "paramSize": {**TEXT, "pattern": r"^[0-9]+(\.[0-9])?[QTBMK]$"},
            },
        },
        "modelfs": {
            "type": "object",
            "additionalProperties": False,
            "required": ["type", "diffIds"],
            "properties": {"type": {"const": "layers"}, "diffIds": {**TEXTS, "minItems": 1}},
        },
    },
}
"""The part of the specification's own schema of a config that we write."""


def asked(url):
    request = urllib.request.Request(url, headers={"Accept": "application/vnd.oci.image.manifest.v1+json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return answer.read()


def test_it_names_the_same_files(registry, repository, pack, tmp_path):
    pack = Path(shutil.copy(pack, tmp_path))
    pack.with_name(pack.name + ".sig").write_bytes(b"{}")
    reference = f"oci://{registry.host}/{repository}:v1"
    sent = lottapack.push(pack, reference, license="MIT", modelpack=True)
    assert sent.modelpack == f"{reference}-modelpack"
    base = f"http://{registry.host}/v2/{repository}"
    own, second = (json.loads(asked(f"{base}/manifests/{tag}")) for tag in ("v1", "v1-modelpack"))
    assert second["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert [one["digest"] for one in second["layers"]] == [one["digest"] for one in own["layers"]]
    assert [one["annotations"]["org.cncf.model.filepath"] for one in second["layers"]] == [
        pack.name,
        pack.name + ".sig",
    ]
    assert [one["mediaType"] for one in second["layers"]] == [
        "application/vnd.cncf.model.weight.v1.raw", "application/vnd.cncf.model.doc.v1.raw"
    ]  # fmt: skip
    assert asked(f"{base}/blobs/{second['layers'][0]['digest']}") == pack.read_bytes()
    assert second["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    config = json.loads(asked(f"{base}/blobs/{second['config']['digest']}"))
    Draft202012Validator(CONFIG).validate(config)
    assert config["descriptor"]["licenses"] == ["MIT"]
    assert config["modelfs"]["diffIds"] == [one["digest"] for one in second["layers"]]
    assert config["config"]["architecture"] == lottapack.inspect(pack).architecture


def test_it_changes_nothing_for_readers_of_packs(registry, repository, pack):
    reference = f"oci://{registry.host}/{repository}:v1"
    first = lottapack.push(pack, reference)
    assert first.modelpack is None
    second = lottapack.push(pack, reference, modelpack=True)
    assert (second.revision, second.sent) == (first.revision, ())
    assert [entry.names for entry in lottapack.history(f"oci://{registry.host}/{repository}")] == [("v1",)]
    assert lottapack.pull(reference).path.read_bytes() == pack.read_bytes()
    with pytest.raises(NotFoundError, match=r"is not a pack but application/vnd\.cncf\.model"):
        lottapack.pull(f"{reference}-modelpack")
    again = lottapack.push(pack, reference, modelpack=True)
    assert again.modelpack == second.modelpack


def test_a_dry_run_only_names_it(registry, repository, pack):
    told = lottapack.push(pack, f"oci://{registry.host}/{repository}", modelpack=True, dry_run=True)
    assert told.modelpack.endswith(":latest-modelpack")
    with pytest.raises(NotFoundError):
        lottapack.history(f"oci://{registry.host}/{repository}")


def test_the_command_says_where_it_is(registry, repository, pack, capsys):
    reference = f"oci://{registry.host}/{repository}:v1"
    assert main(["push", str(pack), reference, "--modelpack"]) == 0
    assert f"also {reference}-modelpack" in capsys.readouterr().out
    assert main(["push", str(pack), reference, "--modelpack", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["modelpack"] == f"{reference}-modelpack"


def test_what_cannot_have_it_says_so(registry, repository, pack):
    with pytest.raises(InvalidReferenceError, match="too long"):
        lottapack.push(pack, f"oci://{registry.host}/{repository}:{'a' * 119}", modelpack=True)
    with pytest.raises(UnsupportedError, match="only an OCI registry"):
        lottapack.push(pack, "my-org/digits", modelpack=True)


@pytest.mark.parametrize(
    ("numel", "text"), [(0, ""), (93, ""), (640, "0.6K"), (1_151_500, "1.2M"), (7 * 10**9, "7.0B"), (10**16, "10.0Q")]
)
def test_sizes_are_written_as_the_specification_asks(numel, text):
    assert modelpack._size(numel) == text
