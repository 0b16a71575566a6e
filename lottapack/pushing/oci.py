"""Push to an OCI registry: the pack and its signature as blobs, then the manifest that names them (spec: oci)."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lottapack.errors import InvalidReferenceError, NotFoundError, RegistryError, UnsupportedError
from lottapack.format import canonical
from lottapack.format.container import SIGNATURE_END
from lottapack.progress import Progress
from lottapack.pushing.modelpack import ModelPack, modelpack, tag_of
from lottapack.registry import integrity, oci_manifest
from lottapack.registry.answers import listed
from lottapack.registry.oci import DEFAULT_TAG, client_of
from lottapack.registry.oci_manifest import (
    ARTIFACT_TYPE,
    EMPTY,
    EMPTY_BLOB,
    MANIFEST_TYPE,
    TITLE,
    Blob,
    Image,
    Manifest,
)
from lottapack.registry.records import FileSize, PushOptions, PushResult
from lottapack.registry.references import OciReference, parse
from lottapack.reports.inspection import Summary, inspect

if TYPE_CHECKING:
    from lottapack.registry.oci_client import Client

_LICENSES = "org.opencontainers.image.licenses"


def push(
    path: Path, sha256: str, reference: OciReference, options: PushOptions, progress: Progress | None
) -> PushResult:
    """Send a verified pack and its signature, and tag them; what the registry has is not sent again.

    ``sha256``: that of the verified file. ``progress``: called with the bytes sent so far and in all. Raises the errors
    of pushing.push().
    """
    target = _target(reference, options)
    pack = oci_manifest.blob(oci_manifest.PACK_TYPE, path, sha256, path.stat().st_size)
    if not oci_manifest.is_name(path.name):
        hint = "Rename the file: use at most 200 bytes, without a point at the start and without control characters."
        raise InvalidReferenceError(f"{path.name!r} cannot be the name of a pack in a registry", hint=hint)
    signature_path = path.with_name(path.name + SIGNATURE_END)
    signature = _signature(signature_path) if signature_path.is_file() else None
    summary, image = inspect(path), Image(pack, signature)
    manifest = manifest_of(summary, image, options.license)
    second = modelpack(summary, image, options.license) if options.modelpack else None
    second_tag = tag_of(str(target.tag)) if second else None
    digest = oci_manifest.digest_of(manifest)
    files = [(pack, path)] + ([(signature, signature_path)] if signature else [])
    with client_of(target, "pull" if options.dry_run else "pull,push") as client:
        tagged = client.digest(str(target.tag))
        created = tagged is None and _is_new(client)
        # Also under a tag that names this manifest: a registry may have lost a blob, which this push brings back.
        missing = [file for file in files if created or not client.has(file[0])]
        if not options.dry_run:
            _send(client, missing, progress)
            if tagged != digest:
                client.put_manifest(str(target.tag), manifest)
            if missing or tagged != digest:
                _require_stored(client, digest, {blob.title: blob for blob, _ in missing})
        if second and second_tag and not options.dry_run:
            _send_second(client, second, second_tag)
        url = client.manifest_url(digest)
    return PushResult(
        reference=str(target),
        revision=digest,
        sha256=pack.sha256,
        size=pack.size,
        sent=tuple(FileSize(blob.title, blob.size) for blob, _ in missing),
        already=tuple(FileSize(blob.title, blob.size) for blob, file in files if (blob, file) not in missing),
        created=created,
        dry_run=options.dry_run,
        url=url,
        modelpack=second_tag and str(OciReference(target.host, target.repository, second_tag)),
    )


def manifest_of(summary: Summary, image: Image, license_: str | None) -> bytes:
    """Return the manifest's bytes, which only depend on the files and the licence (spec: oci, sections 1 and 3)."""
    annotations = {
        TITLE: image.pack.title,
        "lottapack.format": summary.format_version,
        "lottapack.architecture.family": summary.family,
        "lottapack.architecture.class": summary.architecture,
        "lottapack.rng.id": summary.rng,
        "lottapack.rng.seed": summary.seed,
        "lottapack.pack.sha256": image.pack.sha256,
        "lottapack.parameters": str(summary.numel),
        "lottapack.parameters.trained": str(summary.trained),
    }
    if license_ is not None:
        annotations[_LICENSES] = license_
    manifest = Manifest(
        schema_version=2,
        media_type=MANIFEST_TYPE,
        artifact_type=ARTIFACT_TYPE,
        config=EMPTY_BLOB,
        layers=[image.pack] if image.signature is None else [image.pack, image.signature],
        annotations=annotations,
    )
    return canonical.dumps(msgspec.to_builtins(manifest))


def _send_second(client: "Client", second: ModelPack, tag: str) -> None:
    digest = oci_manifest.digest_of(second.manifest)
    missing = {} if client.has(second.config_blob) else {"the second manifest's configuration": second.config_blob}
    if missing:
        client.upload(second.config_blob, second.config)
    tagged = client.digest(tag)
    if tagged != digest:
        client.put_manifest(tag, second.manifest)
    if missing or tagged != digest:
        _require_stored(client, digest, missing)


def _send(client: "Client", files: list[tuple[Blob, Path]], progress: Progress | None) -> None:
    if not client.has(EMPTY_BLOB):
        client.upload(EMPTY_BLOB, EMPTY)
    total = sum(blob.size for blob, _ in files)
    done = 0
    for blob, path in files:
        client.upload(blob, path, partial(_advance, progress, done, total) if progress else None)
        done += blob.size


def _require_stored(client: "Client", digest: str, sent: dict[str, Blob]) -> None:
    """Raise RegistryError unless the registry has what it accepted, as one whose disk is full may not.

    It is asked for a manifest by digest: another push may have moved the tag meanwhile.
    """
    lost = [name for name, blob in sent.items() if not client.has(blob)]
    if client.digest(digest) is None:
        lost.append(f"the manifest {digest}")
    if lost:
        raise RegistryError(
            f"{client.where}: the registry does not have {listed(lost)}, which it accepted",
            hint="Push again. If it happens again, ask the registry's operator.",
        )


def _advance(progress: Progress, done: int, total: int, sent: int) -> None:
    progress(done + sent, total)


def _is_new(client: "Client") -> bool:
    try:
        return not client.tags()
    except NotFoundError:
        return True


def _signature(path: Path) -> Blob:
    return oci_manifest.blob(oci_manifest.SIGNATURE_TYPE, path, integrity.sha256_of(path), path.stat().st_size)


def _target(reference: OciReference, options: PushOptions) -> OciReference:
    """Return the target of a push. Raises InvalidReferenceError; UnsupportedError for features of the Hub only."""
    if reference.digest:
        hint = "Use a tag instead, such as oci://host/repository:tag. The digest follows from the pack."
        raise InvalidReferenceError(f"cannot push to the digest {reference}", hint=hint)
    if reference.tag and options.tag not in (None, reference.tag):
        hint = "Name the tag only once."
        raise InvalidReferenceError(f"{reference} has another tag than `tag={options.tag}`", hint=hint)
    asked = {
        "a branch": options.branch,
        "private repositories": options.private,
        "a commit message": options.message,
        "datasets in a model card": options.datasets,
        "metrics in a model card": options.metrics,
        "results in a model card": options.results,
    }
    for what, value in asked.items():
        if value:
            hint = "Leave it out. Only repositories of the Hub support it."
            raise UnsupportedError(f"{reference}: an OCI registry does not support {what}", hint=hint)
    tagged = OciReference(reference.host, reference.repository, reference.tag or options.tag or DEFAULT_TAG)
    parse(str(tagged))  # checks the tag from the options
    return tagged
