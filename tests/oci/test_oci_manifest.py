"""The manifest: its bytes, and a reader's refusals."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from lottapack.errors import NotFoundError, RegistryError
from lottapack.pushing.oci import manifest_of
from lottapack.registry import oci_manifest
from lottapack.registry.oci_manifest import PACK_TYPE, SIGNATURE_TYPE, Image, blob, is_name
from lottapack.reports.inspection import inspect

SPEC = Path(__file__).parents[2] / "spec" / "v1"
PACK = SPEC / "vectors" / "files" / "valid" / "backbone_dtypes.lotta.safetensors"
SCHEMA = json.loads((SPEC / "oci.schema.json").read_text("utf-8"))


def image(signature=True):
    signed = blob(SIGNATURE_TYPE, PACK.with_name(f"{PACK.name}.sig"), "cd" * 32, 70) if signature else None
    return Image(blob(PACK_TYPE, PACK, "ab" * 32, 3992), signed)


@pytest.mark.parametrize("signature", [True, False])
@pytest.mark.parametrize("license_", ["MIT", None])
def test_what_is_written_follows_the_schema_and_is_read_again(signature, license_):
    raw = manifest_of(inspect(PACK), image(signature), license_)
    Draft202012Validator(SCHEMA).validate(json.loads(raw))
    assert oci_manifest.read(raw, "here") == image(signature)
    assert raw == manifest_of(inspect(PACK), image(signature), license_)


def test_the_annotations_are_the_descriptors():
    found = json.loads(manifest_of(inspect(PACK), image(), "MIT"))["annotations"]
    summary = inspect(PACK)
    assert found["lottapack.rng.seed"] == summary.seed
    assert found["lottapack.rng.id"] == "philox4x32-10"
    assert found["lottapack.architecture.class"] == summary.architecture
    assert found["lottapack.pack.sha256"] == "ab" * 32
    assert found["org.opencontainers.image.licenses"] == "MIT"


def test_the_empty_blob_is_what_its_digest_says():
    assert oci_manifest.digest_of(oci_manifest.EMPTY) == oci_manifest.EMPTY_BLOB.digest


def changed(change):
    manifest = json.loads(manifest_of(inspect(PACK), image(), None))
    change(manifest)
    return json.dumps(manifest).encode()


def set_title(layer, title):
    def change(manifest):
        manifest["layers"][layer]["annotations"]["org.opencontainers.image.title"] = title

    return change


BROKEN = {
    "schema version": lambda m: m.update(schemaVersion=1),
    "media type": lambda m: m.update(mediaType="application/vnd.oci.image.index.v1+json"),
    "no pack": lambda m: m["layers"].pop(0),
    "no layers": lambda m: m.pop("layers"),
    "two packs": lambda m: m["layers"].append(m["layers"][0]),
    "two signatures": lambda m: m["layers"].append(m["layers"][1]),
    "no digest": lambda m: m["layers"][0].pop("digest"),
    "other digest": lambda m: m["layers"][0].update(digest="sha512:" + "ab" * 64),
    "digest with a path": lambda m: m["layers"][0].update(digest="sha256:../../" + "a" * 58),
    "negative size": lambda m: m["layers"][0].update(size=-1),
    "size as text": lambda m: m["layers"][0].update(size="3992"),
    "no title": lambda m: m["layers"][0].pop("annotations"),
    "title up": set_title(0, "../x.lotta.safetensors"),
    "title absolute": set_title(0, "/x.lotta.safetensors"),
    "title hidden": set_title(0, ".x.lotta.safetensors"),
    "title of another end": set_title(0, "x.safetensors"),
    "title with a line": set_title(0, "x\n.lotta.safetensors"),
    "title too long": set_title(0, "x" * 200 + ".lotta.safetensors"),
    "title of the signature": set_title(1, "manifest.json"),
    "signature up": set_title(1, "../backbone_dtypes.lotta.safetensors.sig"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_manifest_that_breaks_the_page_is_refused(fault):
    with pytest.raises(RegistryError, match="breaks the specification") as caught:
        oci_manifest.read(changed(BROKEN[fault]), "oci://h/r:t")
    assert type(caught.value) is RegistryError


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff", b"{}" * 2, b"[" * 100_000])
def test_what_is_no_manifest_is_refused(raw):
    with pytest.raises(RegistryError):
        oci_manifest.read(raw, "oci://h/r:t")


def test_another_kind_of_image_is_missing_as_a_pack():
    raw = changed(lambda m: m.update(artifactType="application/vnd.example"))
    with pytest.raises(NotFoundError, match=r"is not a pack but application/vnd\.example"):
        oci_manifest.read(raw, "oci://h/r:t")
    with pytest.raises(NotFoundError, match=r"is not a pack but application/vnd\.oci\.empty"):
        oci_manifest.read(changed(lambda m: m.pop("artifactType")), "oci://h/r:t")


def test_unknown_fields_and_layers_are_ignored():
    def change(manifest):
        manifest["subject"] = {"mediaType": "x", "digest": "sha256:" + "00" * 32, "size": 1}
        manifest["layers"].append({"mediaType": "application/vnd.example", "digest": "sha256:" + "00" * 32, "size": 1})
        manifest["annotations"]["org.opencontainers.image.created"] = "2026-01-01T00:00:00Z"

    assert oci_manifest.read(changed(change), "oci://h/r:t") == image()


@pytest.mark.parametrize("name", ["a.lotta.safetensors", "Ziffern über.lotta.safetensors", "a.b.lotta.safetensors"])
def test_names_that_are_allowed(name):
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".lotta.safetensors",
        "a.safetensors",
        "a/b.lotta.safetensors",
        "a\\b.lotta.safetensors",
        "\udc80.lotta.safetensors",
        "a\0.lotta.safetensors",
        "ü" * 95 + ".lotta.safetensors",
    ],
)
def test_names_that_are_not(name):
    assert not is_name(name)
