"""Packs in OCI registries: pull, list and log (spec: oci). ``pushing.oci`` pushes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lottapack.errors import (
    AccessError,
    FormatError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    RegistryError,
    UnsupportedError,
)
from lottapack.extras import missing
from lottapack.files.output import settle
from lottapack.progress import Progress
from lottapack.registry import answers, downloading, oci_cache, oci_manifest
from lottapack.registry.integrity import MAX_SIGNATURE, check_pack
from lottapack.registry.oci_cache import Entry, expected
from lottapack.registry.oci_manifest import Blob, Image
from lottapack.registry.records import Listed, LogEntry, PullResult
from lottapack.registry.references import OciReference, Owner

if TYPE_CHECKING:
    from lottapack.registry.oci_client import Client

_log = logging.getLogger(__name__)

DEFAULT_TAG = "latest"


def pull(reference: OciReference, progress: Progress | None) -> PullResult:
    """Fetch a pack and its signature into the cache (see oci_cache). ``progress``: in bytes of the pack.

    Raises the errors of registry.pull().
    """
    source = _tagged(reference)
    with client_of(source, "pull") as client:
        manifest, digest = b"", source.digest
        if digest is None:
            try:
                manifest, digest = client.manifest(str(source.tag))
            except NetworkError as fault:
                known = oci_cache.recall(source)
                if known is None:
                    raise
                exact = OciReference(source.host, source.repository, digest=known)
                hint = f"The version last pulled, {known}, is in the cache. Pull {exact} to use it."
                raise NetworkError(fault.message, hint=hint) from fault
        entry, received = oci_cache.entry(digest), 0
        image = entry.image(str(source))  # without a lock, also where nothing can be written
        if image is None:
            with oci_cache.locked(entry):
                image = entry.image(str(source))  # another process may have been faster
                if image is None:
                    manifest = manifest or client.manifest(digest)[0]
                    image = oci_manifest.read(manifest, str(source))
                    received = _fetch(client, image, entry, str(source), progress)
                    entry.complete(manifest)
        path = entry.file(image.pack)
        if not received:
            _log.info("%s is in the cache: %s", source, path)
        if source.tag:
            oci_cache.remember(source, digest)
    return PullResult(path, str(source), digest, image.pack.sha256, image.pack.size, received)


def _fetch(client: "Client", image: Image, entry: Entry, where: str, progress: Progress | None) -> int:
    """Fetch the files of an image, and check the pack before it gets its name. Returns the bytes received of it."""
    if image.signature and image.signature.size > MAX_SIGNATURE:
        raise RegistryError(
            f"{where}: its signature has {image.signature.size:,} bytes, but only {MAX_SIGNATURE:,} are allowed",
            hint="Report this to its author.",
        )
    if image.signature:
        part = _part(entry, image.signature)
        download(client, image.signature, part, None)
        settle(part, entry.file(image.signature))
    part = _part(entry, image.pack)
    received = download(client, image.pack, part, progress)
    try:
        check_pack(part)
    except (FormatError, IntegrityError) as fault:
        part.unlink()
        hint = "The file is as it was pushed, but this version cannot read it as a pack. Report this to its author."
        raise type(fault)(where, fault.problems, hint=hint) from fault
    settle(part, entry.file(image.pack))
    return received


def _part(entry: Entry, blob: Blob) -> Path:
    """Return the partial file of a blob.

    A file that an interrupted pull had already named is moved back, to be checked.
    """
    part = entry.folder / f"{blob.sha256}.part"
    file = entry.file(blob)
    if file.is_file():
        file.replace(part)
    return part


def download(client: "Client", blob: Blob, path: Path, progress: Progress | None) -> int:
    """Fetch a blob into ``path``; see _download()."""
    what = f"{client.where}, {blob.title}"
    return downloading.download(partial(client.open_blob, blob), expected(blob), path, what, progress)


def log(reference: OciReference) -> list[LogEntry]:
    """Return the packs of a repository by tag, in the order of the tags; with a tag or digest, that one.

    Registries do not keep a history. Raises NotFoundError, AccessError, NetworkError.
    """
    with client_of(reference, "pull") as client:
        name = reference.tag or reference.digest
        packs = _packs(client, [name], is_listed=False) if name else _packs(client, _tags(client))
        if not packs:
            raise NotFoundError(f"{reference}: found no pack under any tag", hint="Push one with lottapack push.")
        names: dict[str, list[str]] = {}
        for tag, (digest, _) in packs.items():
            names.setdefault(digest, []).extend([] if tag == reference.digest else [tag])
        images = dict(packs.values())
        return [
            LogEntry(digest, tuple(tags), title=f"{images[digest].title} ({images[digest].size:,} bytes)")
            for digest, tags in names.items()
        ]


def list_packs(owner: Owner) -> list[Listed]:
    """Return the readable packs of a registry by repository and tag, below ``owner.name`` or in all repositories.

    Raises UnsupportedError if the registry does not list repositories; AccessError, NetworkError.
    """
    host = owner.host or ""
    with client_of(OciReference(host, ""), None) as client:
        try:
            repositories = _first(client.repositories(), "repositories", host)
        except NotFoundError as fault:
            hint = f"Name the repository: lottapack log oci://{host}/REPOSITORY lists its tags."
            raise UnsupportedError(f"{host} does not list its repositories", hint=hint) from fault
    packs = []
    for name in repositories:
        if not owner.name or name == owner.name or name.startswith(f"{owner.name}/"):
            # A listed repository may lack a tag after an interrupted push, or may not be readable.
            with (
                client_of(OciReference(host, name), "pull") as client,
                suppress(NotFoundError, AccessError),
                _left_out(client.where),
            ):
                packs += [Listed(str(OciReference(host, name, tag))) for tag in _packs(client, _tags(client))]
    return packs


def _tags(client: "Client") -> list[str]:
    return _first(client.tags(), "tags", client.where)


def _first(names: list[str], what: str, where: str) -> list[str]:
    """Return the names of a list; of a longer one than is read, the first ones, with a warning."""
    from lottapack.registry.oci_client import MAX_LISTED

    if len(names) > MAX_LISTED:
        _log.warning("%s has more than %s %s; only that many are listed", where, f"{MAX_LISTED:,}", what)
    return names[:MAX_LISTED]


@contextmanager
def _left_out(where: str) -> Iterator[None]:
    """Leave out what a registry does not answer validly, with a warning, so that one of many does not hide the rest."""
    try:
        yield
    except (NetworkError, AccessError, NotFoundError):
        raise
    except (RegistryError, IntegrityError) as fault:
        _log.warning("left out %s: %s", where, answers.printable(fault.message, 300))


def _packs(client: "Client", names: list[str], *, is_listed: bool = True) -> dict[str, tuple[str, Blob]]:
    """Return the digest and the pack of each tag of a pack. ``is_listed``: the registry listed the names."""
    packs = {}
    for name in names:
        where = f"{client.where}:{name}"
        try:
            with _left_out(where) if is_listed else nullcontext():
                raw, digest = client.manifest(name)
                with suppress(RegistryError):  # another kind of image, or an invalid one; pull says why
                    packs[name] = digest, oci_manifest.read(raw, where).pack
        except NotFoundError:
            if not is_listed:
                raise  # else it was removed meanwhile
    return packs


def _tagged(reference: OciReference) -> OciReference:
    if reference.tag or reference.digest:
        return reference
    return OciReference(reference.host, reference.repository, DEFAULT_TAG)


def client_of(reference: OciReference, actions: str | None) -> "Client":
    """Return a client with the rights for ``pull`` or ``pull,push``. Raises UnsupportedError without the extra."""
    try:
        from lottapack.registry.oci_client import Client
    except ModuleNotFoundError as fault:
        if fault.name not in ("oras", "requests"):
            raise
        raise missing("an OCI registry", fault.name, "oci", fault) from fault
    return Client(reference, actions)
