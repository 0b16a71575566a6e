"""The OCI manifest of a pack: its records, and what readers refuse (spec: oci)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lottapack.errors import NotFoundError, RegistryError
from lottapack.format.container import PACK_END, SIGNATURE_END
from lottapack.registry import answers
from lottapack.registry.references import DIGEST

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.lottapack.pack.v1"
PACK_TYPE = "application/vnd.lottapack.pack.v1.safetensors"
SIGNATURE_TYPE = "application/vnd.lottapack.signature.v1"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"

TITLE = "org.opencontainers.image.title"
_MAX_NAME = 200


class Blob(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A blob in a manifest. ``size`` in bytes; ``digest``: ``sha256:`` and 64 hex digits."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None

    @property
    def sha256(self) -> str:
        """The digest without its algorithm."""
        return self.digest.removeprefix("sha256:")

    @property
    def title(self) -> str:
        """The file's name, or an empty text."""
        return (self.annotations or {}).get(TITLE, "")


EMPTY_BLOB = Blob(EMPTY_TYPE, "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", len(EMPTY))


class Manifest(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """A manifest; it may have more fields."""

    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    config: Blob | None = None
    layers: list[Blob] = msgspec.field(default_factory=list)
    annotations: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """The files of a checked manifest."""

    pack: Blob
    signature: Blob | None = None


def is_name(name: str) -> bool:
    """Return whether a pack may have this name in a registry (spec: oci, section 2)."""
    if not name.endswith(PACK_END) or name.startswith(".") or answers.name_fault(name):
        return False
    return len(name.encode()) <= _MAX_NAME


def blob(media_type: str, path: Path, sha256: str, size: int) -> Blob:
    """Return the layer of a file."""
    return Blob(media_type, f"sha256:{sha256}", size, {TITLE: path.name})


def digest_of(raw: bytes) -> str:
    """Return the digest of a manifest's bytes."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def read(raw: bytes, where: str) -> Image:
    """Return the files that a manifest names. ``where``: the reference, for messages.

    Raises:
        NotFoundError: the manifest is not of a pack. RegistryError: it breaks the specification.
    """
    try:
        raw.decode()  # the parser does not check the UTF-8 of fields that it ignores
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as fault:
        raise _broken(where, str(fault)) from fault
    if manifest.artifact_type != ARTIFACT_TYPE:
        kind = manifest.artifact_type or (manifest.config.media_type if manifest.config else manifest.media_type)
        raise NotFoundError(
            f"{where} is not a pack but {answers.printable(kind, 100) or 'an artifact without a type'}",
            hint="Use the tag of an image that was pushed with lottapack push.",
        )
    if manifest.schema_version != 2 or manifest.media_type != MANIFEST_TYPE:
        raise _broken(where, "schemaVersion and mediaType are not those of an OCI image manifest")
    packs = [layer for layer in manifest.layers if layer.media_type == PACK_TYPE]
    signatures = [layer for layer in manifest.layers if layer.media_type == SIGNATURE_TYPE]
    if len(packs) != 1 or len(signatures) > 1:
        raise _broken(where, f"it has {len(packs)} packs and {len(signatures)} signatures")
    for layer in packs + signatures:
        if not DIGEST.fullmatch(layer.digest) or not 0 <= layer.size < 1 << 62:
            raise _broken(where, f"{layer.digest!r} of {layer.size} bytes is not a SHA-256 digest with a valid size")
    if not is_name(packs[0].title):
        raise _broken(where, f"the pack's name {packs[0].title!r} is not allowed")
    if signatures and signatures[0].title != packs[0].title + SIGNATURE_END:
        raise _broken(
            where, f"the signature's name {signatures[0].title!r} is not the pack's name with {SIGNATURE_END}"
        )
    return Image(packs[0], signatures[0] if signatures else None)


def _broken(where: str, why: str) -> RegistryError:
    hint = "Push the pack again with lottapack push."
    shown = answers.printable(why, 300)
    return RegistryError(f"{where} has a manifest that breaks the specification: {shown}", hint=hint)
