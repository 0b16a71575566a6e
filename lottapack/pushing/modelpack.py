"""A pack's second manifest, after the CNCF's ModelPack specification, for tools that know only that one.

It names the same blobs as the pack's own manifest (spec: oci, section 7), so a registry holds each file once.
"""

from dataclasses import dataclass

import msgspec

from lottapack.errors import InvalidReferenceError
from lottapack.format import canonical
from lottapack.format.container import PACK_END
from lottapack.registry import oci_manifest
from lottapack.registry.oci_manifest import MANIFEST_TYPE, Blob, Image, Manifest
from lottapack.reports.inspection import Summary

TAG_END = "-modelpack"
"""The end of the second manifest's tag, after the tag of the first."""
ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
WEIGHT_TYPE = "application/vnd.cncf.model.weight.v1.raw"
SIGNATURE_TYPE = "application/vnd.cncf.model.doc.v1.raw"
_FILE = "org.cncf.model.filepath"
_LONGEST_TAG = 128
_UNITS = ((10**15, "Q"), (10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


@dataclass(frozen=True, slots=True)
class ModelPack:
    """The second manifest and its config, as bytes and as a blob."""

    manifest: bytes
    config: bytes
    config_blob: Blob


def tag_of(tag: str) -> str:
    """Return the tag of the second manifest. Raises InvalidReferenceError if it would be too long."""
    if len(tag) + len(TAG_END) > _LONGEST_TAG:
        hint = f"Use a tag of at most {_LONGEST_TAG - len(TAG_END)} characters, or leave out `modelpack`."
        raise InvalidReferenceError(f"the tag {tag} is too long for a second one that ends in {TAG_END}", hint=hint)
    return tag + TAG_END


def modelpack(summary: Summary, image: Image, license_: str | None) -> ModelPack:
    """Return the second manifest of a pack's files. It only depends on the files and the licence."""
    layers = [_layer(WEIGHT_TYPE, image.pack)]
    if image.signature is not None:
        layers.append(_layer(SIGNATURE_TYPE, image.signature))
    technical = {
        "architecture": summary.architecture,
        "format": "lottapack",
        "paramSize": _size(summary.numel),
        "precision": _precision(summary),
    }
    descriptor = {
        "name": image.pack.title.removesuffix(PACK_END),
        "family": summary.family,
        **({"licenses": [license_]} if license_ is not None else {}),
    }
    content = {
        "descriptor": descriptor,
        "config": {name: value for name, value in technical.items() if value},
        "modelfs": {"type": "layers", "diffIds": [layer.digest for layer in layers]},
    }
    config = canonical.dumps(content)
    blob = Blob(CONFIG_TYPE, oci_manifest.digest_of(config), len(config))
    manifest = Manifest(
        schema_version=2,
        media_type=MANIFEST_TYPE,
        artifact_type=ARTIFACT_TYPE,
        config=blob,
        layers=layers,
        annotations={oci_manifest.TITLE: image.pack.title, "lottapack.pack.sha256": image.pack.sha256},
    )
    return ModelPack(canonical.dumps(msgspec.to_builtins(manifest)), config, blob)


def _layer(media_type: str, file: Blob) -> Blob:
    return Blob(media_type, file.digest, file.size, {_FILE: file.title, oci_manifest.TITLE: file.title})


def _size(numel: int) -> str:
    """Return a number of parameters as ModelPack writes it, such as ``1.2M``; empty below a hundred."""
    for unit, letter in _UNITS:
        if numel >= unit:
            return f"{numel / unit:.1f}{letter}"
    return f"{numel / 1000:.1f}K" if numel >= 100 else ""


def _precision(summary: Summary) -> str:
    """Return the dtype of the plain model's weights, ``mixed`` if there are several."""
    dtypes = {one.dtype for one in summary.parameters if one.dtype and "float" in one.dtype}
    return next(iter(dtypes)) if len(dtypes) == 1 else "mixed" if dtypes else ""
