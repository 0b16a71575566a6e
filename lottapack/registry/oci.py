"""Packs in OCI registries: push, pull, list and log (spec: oci)."""

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lottapack.errors import (
    AccessError,
    InvalidReferenceError,
    NetworkError,
    NotFoundError,
    RegistryError,
    UnsupportedError,
)
from lottapack.format.container import SIGNATURE_END
from lottapack.progress import Progress
from lottapack.registry import integrity, oci_cache, oci_manifest
from lottapack.registry.oci_download import fetch
from lottapack.registry.oci_manifest import EMPTY, EMPTY_BLOB, Blob, Image
from lottapack.registry.records import FileSize, Listed, LogEntry, PullResult, PushOptions, PushResult
from lottapack.registry.references import OciReference, Owner, parse
from lottapack.reports.inspection import inspect

if TYPE_CHECKING:
    from lottapack.registry.oci_client import Client

DEFAULT_TAG = "latest"


def push(path: Path, reference: OciReference, options: PushOptions, progress: Progress | None) -> PushResult:
    """Send a pack that was verified, and its signature, and name them by a tag; what is there is not sent again.

    ``progress``: in bytes of all that is sent. Raises: see registry.push().
    """
    target = _target(reference, options)
    pack = _layer(oci_manifest.PACK_TYPE, path)
    if not oci_manifest.is_name(path.name):
        hint = "Rename the file: at most 200 bytes, no point at the start, no control characters."
        raise InvalidReferenceError(f"{path.name!r} is no name for a pack in a registry", hint=hint)
    signature_path = path.with_name(path.name + SIGNATURE_END)
    signature = _layer(oci_manifest.SIGNATURE_TYPE, signature_path) if signature_path.is_file() else None
    manifest = oci_manifest.build(inspect(path), Image(pack, signature), options.license)
    digest = oci_manifest.digest_of(manifest)
    files = [(pack, path)] + ([(signature, signature_path)] if signature else [])
    with _client(target, "pull" if options.dry_run else "pull,push") as client:
        tagged = client.digest(str(target.tag))
        created = tagged is None and _is_new(client)
        missing = [] if tagged == digest else [file for file in files if created or not client.has(file[0])]
        if not options.dry_run and tagged != digest:
            _send(client, missing, progress)
            client.put_manifest(str(target.tag), manifest)
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
    )


def pull(reference: OciReference, progress: Progress | None) -> PullResult:
    """Bring a pack, and its signature, into the cache (see oci_cache). ``progress``: in bytes of the pack.

    Raises: see registry.pull().
    """
    source = _tagged(reference)
    with _client(source, "pull") as client:
        manifest, digest = b"", source.digest
        if digest is None:
            try:
                manifest, digest = client.manifest(str(source.tag))
            except NetworkError as fault:
                known = oci_cache.recall(source)
                if known is None:
                    raise
                exact = OciReference(source.host, source.repository, digest=known)
                hint = f"When it was last pulled it was {known}, which is in the cache: pull {exact}."
                raise NetworkError(fault.message, hint=hint) from fault
        with oci_cache.locked(digest) as entry:
            image, received = entry.image(str(source)), 0
            if image is None:
                manifest = manifest or client.manifest(digest)[0]
                image = oci_manifest.read(manifest, str(source))
                received = fetch(client, image, entry, str(source), progress)
                entry.complete(manifest)
            path = entry.file(image.pack)
        if source.tag:
            oci_cache.remember(source, digest)
    return PullResult(path, str(source), digest, image.pack.sha256, image.pack.size, received)


def log(reference: OciReference) -> list[LogEntry]:
    """The packs of a repository by their tags, in the order of the tags; with a tag or digest, that one.

    A registry keeps no history. Raises: NotFoundError, AccessError, NetworkError.
    """
    with _client(reference, "pull") as client:
        name = reference.tag or reference.digest
        packs = _packs(client, [name] if name else client.tags())
        if not packs:
            raise NotFoundError(f"{reference}: no pack under any tag", hint="Push one: lottapack push.")
        names: dict[str, list[str]] = {}
        for tag, (digest, _) in packs.items():
            names.setdefault(digest, []).extend([] if tag == reference.digest else [tag])
        images = dict(packs.values())
        return [
            LogEntry(digest, tuple(tags), title=f"{images[digest].title} ({images[digest].size:,} bytes)")
            for digest, tags in names.items()
        ]


def list_packs(owner: Owner) -> list[Listed]:
    """The packs of a registry that one may read, by repository and tag, in those below ``owner.name``, or in all.

    Raises: UnsupportedError where the registry lists no repositories. AccessError, NetworkError.
    """
    host = owner.host or ""
    with _client(OciReference(host, ""), None) as client:
        try:
            repositories = client.repositories()
        except NotFoundError as fault:
            hint = f"Name the repository: lottapack log oci://{host}/REPOSITORY lists its tags."
            raise UnsupportedError(f"{host} does not list its repositories", hint=hint) from fault
    found = []
    for name in repositories:
        if not owner.name or name == owner.name or name.startswith(f"{owner.name}/"):
            # Listed, and yet without a tag after a push that was interrupted, or not for everyone to read.
            with _client(OciReference(host, name), "pull") as client, suppress(NotFoundError, AccessError):
                found += [Listed(str(OciReference(host, name, tag))) for tag in _packs(client, client.tags())]
    return found


def _packs(client: "Client", names: list[str]) -> dict[str, tuple[str, Blob]]:
    """The digest and the pack of each tag that is a pack's."""
    found = {}
    for name in names:
        raw, digest = client.manifest(name)
        try:
            found[name] = digest, oci_manifest.read(raw, f"{client.where}:{name}").pack
        except RegistryError:
            continue  # another kind of image, or a broken one: pull says why
    return found


def _send(client: "Client", files: list[tuple[Blob, Path]], progress: Progress | None) -> None:
    if not client.has(EMPTY_BLOB):
        client.upload(EMPTY_BLOB, EMPTY)
    total = sum(blob.size for blob, _ in files)
    done = 0
    for blob, path in files:
        client.upload(blob, path, partial(_advance, progress, done, total) if progress else None)
        done += blob.size


def _advance(progress: Progress, done: int, total: int, sent: int) -> None:
    progress(done + sent, total)


def _is_new(client: "Client") -> bool:
    try:
        return not client.tags()
    except NotFoundError:
        return True


def _layer(media_type: str, path: Path) -> Blob:
    size, sha256 = path.stat().st_size, integrity.digest(path, "sha256")
    return oci_manifest.blob(media_type, path, sha256, size)


def _target(reference: OciReference, options: PushOptions) -> OciReference:
    """Where a push goes. Raises InvalidReferenceError; UnsupportedError for what only the Hub has."""
    if reference.digest:
        hint = "The digest follows from the pack. Name a tag: oci://host/repository:tag."
        raise InvalidReferenceError(f"{reference}: nothing can be pushed to a digest", hint=hint)
    if reference.tag and options.tag not in (None, reference.tag):
        hint = "Name the tag once."
        raise InvalidReferenceError(f"{reference}: another tag than --tag {options.tag}", hint=hint)
    asked = {
        "a branch": options.branch,
        "private repositories of a client's making": options.private,
        "a commit message": options.message,
        "a model card for datasets": options.datasets,
        "a model card for metrics": options.metrics,
    }
    for what, value in asked.items():
        if value:
            hint = "Leave it out; these are for repositories of the Hub."
            raise UnsupportedError(f"{reference}: an OCI registry has no place for {what}", hint=hint)
    tagged = OciReference(reference.host, reference.repository, reference.tag or options.tag or DEFAULT_TAG)
    parse(str(tagged))  # the tag of the options may be anything
    return tagged


def _tagged(reference: OciReference) -> OciReference:
    if reference.tag or reference.digest:
        return reference
    return OciReference(reference.host, reference.repository, DEFAULT_TAG)


def _client(reference: OciReference, actions: str | None) -> "Client":
    """Raises UnsupportedError where the extra is not installed."""
    try:
        from lottapack.registry.oci_client import Client
    except ModuleNotFoundError as fault:
        if fault.name not in ("oras", "requests"):
            raise
        hint = "pip install 'lottapack[oci]'"
        raise UnsupportedError("OCI registries need the oras client, which is not installed", hint=hint) from fault
    return Client(reference, actions)
